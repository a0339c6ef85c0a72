package objects

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
)

// claimTimeout bounds one question about a claim.
const claimTimeout = 10 * time.Second

// Claims gives the persistent volume claims of the node's pods and the volumes
// that they are bound to. The Node authorizer permits to get them, not to watch, so
// every call asks the API server. Safe for concurrent use.
type Claims struct{ Client core.CoreV1Interface }

// Claim returns a claim that a pod of this node names.
func (c Claims) Claim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("no answer within %v", claimTimeout))
	defer cancel()
	return c.Client.PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
}

// Volume returns the persistent volume of such a claim.
func (c Claims) Volume(ctx context.Context, name string) (*v1.PersistentVolume, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("no answer within %v", claimTimeout))
	defer cancel()
	return c.Client.PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
}

// Secret returns a secret that such a volume names.
func (c Claims) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("no answer within %v", claimTimeout))
	defer cancel()
	return c.Client.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}
