package e2e

import (
	authv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// patiently has kubectl wait longer than anything takes. The end of a namespace takes longest: it is
// tried again with a growing back-off while the aggregated API of another test does not answer.
var patiently = "--timeout=" + (3 * harness.Patience).String()

// patientWithNodes is an argument for the controller manager: how long the API server is away is a
// matter of how busy the machine is, and after 50 s, the default, a node and its pods are no more Ready.
const patientWithNodes = "--node-monitor-grace-period=5m"

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

func tokenReview(token string) *authv1.TokenReview {
	return &authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token, Audiences: []string{"somebody"}}}
}
