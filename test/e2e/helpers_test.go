package e2e

import (
	authv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

func tokenReview(token string) *authv1.TokenReview {
	return &authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token, Audiences: []string{"somebody"}}}
}
