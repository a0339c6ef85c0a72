package podobjects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
)

// claimTimeout bounds one question about a claim.
const claimTimeout = 10 * time.Second

// awaitedLook is the pause between two looks at the claims that pods wait for.
const awaitedLook = time.Second

// ClaimsConfig is what Claims is made of; all of it is required.
type ClaimsConfig struct {
	Client core.CoreV1Interface
	// Users returns the pods of this node that use the claim.
	Users func(namespace, claim string) []types.UID
	// Changed is called with pods whose claim is no longer as it was when they could
	// not use it. It must not block.
	Changed func(pods []types.UID)
}

// Claims gives the persistent volume claims of the node's pods and the volumes that
// they are bound to. The Node authorizer permits a node to get them, not to watch
// them: every call asks the API server, and while a pod waits for a claim, Run looks
// at it again and again, one claim at a time. Safe for concurrent use.
type Claims struct {
	cfg  ClaimsConfig
	wake chan struct{}

	mu      sync.Mutex
	awaited map[types.NamespacedName]string // claims that were not bound, and their versions; "": missing
}

// NewClaims checks the configuration.
func NewClaims(cfg ClaimsConfig) (*Claims, error) {
	if cfg.Client == nil || cfg.Users == nil || cfg.Changed == nil {
		return nil, errors.New("claims: the ClaimsConfig is not complete")
	}
	return &Claims{cfg: cfg, wake: make(chan struct{}, 1), awaited: map[types.NamespacedName]string{}}, nil
}

// Run looks at the claims that pods wait for until ctx ends. It is called once.
func (c *Claims) Run(ctx context.Context) error {
	var rest <-chan time.Time // nil while nothing is awaited
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
			if rest != nil {
				continue
			}
		case <-rest:
			for _, name := range c.waiting() {
				c.check(ctx, name)
			}
		}
		rest = nil
		if len(c.waiting()) > 0 {
			rest = time.After(awaitedLook)
		}
	}
}

func (c *Claims) waiting() []types.NamespacedName {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.awaited))
}

// check looks at an awaited claim and tells its pods if it has changed. It ignores
// other errors: the pods report them, and it tries again.
func (c *Claims) check(ctx context.Context, name types.NamespacedName) {
	pods := c.cfg.Users(name.Namespace, name.Name)
	if len(pods) > 0 {
		o, err := c.get(ctx, name.Namespace, name.Name)
		if err != nil && !apierrors.IsNotFound(err) {
			return
		}
		c.mu.Lock()
		before, still := c.awaited[name]
		c.mu.Unlock()
		if !still || before == versionOf(o, err) {
			return
		}
	}
	c.mu.Lock()
	delete(c.awaited, name)
	c.mu.Unlock()
	if len(pods) > 0 {
		c.cfg.Changed(pods)
	}
}

// versionOf distinguishes the states of a claim.
func versionOf(o *v1.PersistentVolumeClaim, err error) string {
	if err != nil {
		return ""
	}
	return string(o.UID) + "/" + o.ResourceVersion
}

// Claim returns a claim that a pod of this node names. One that cannot be used is
// watched from then on.
func (c *Claims) Claim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	o, err := c.get(ctx, namespace, name)
	if apierrors.IsNotFound(err) || err == nil && o.Status.Phase != v1.ClaimBound {
		c.mu.Lock()
		c.awaited[types.NamespacedName{Namespace: namespace, Name: name}] = versionOf(o, err)
		c.mu.Unlock()
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return o, err
}

// Look returns a claim as it is now, and has it not watched.
func (c *Claims) Look(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	return c.get(ctx, namespace, name)
}

// PatchStatus makes the claim's status what it is in now, and returns the claim. If it is no longer
// as it was before, the error satisfies apierrors.IsConflict. NodeRestriction lets a node change
// what is about sizes, and nothing else.
func (c *Claims) PatchStatus(ctx context.Context, before, now *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error) {
	patch, err := statusPatch(before, now)
	if patch == nil {
		return now, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("no answer within %v", claimTimeout))
	defer cancel()
	o, err := c.cfg.Client.PersistentVolumeClaims(before.Namespace).Patch(ctx, before.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("patch the status of PVC %s/%s: %w", before.Namespace, before.Name, err)
	}
	return o, nil
}

// statusPatch is the patch from one status to the other, nil if they are the same.
func statusPatch(before, now *v1.PersistentVolumeClaim) ([]byte, error) {
	of := func(o *v1.PersistentVolumeClaim, version string) ([]byte, error) {
		return json.Marshal(&v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: o.UID, ResourceVersion: version}, Status: o.Status})
	}
	if equality.Semantic.DeepEqual(before.Status, now.Status) {
		return nil, nil
	}
	// The version and the UID stand in the patch as what the object must have.
	old, err := of(&v1.PersistentVolumeClaim{Status: before.Status}, "")
	if err != nil {
		return nil, err
	}
	fresh, err := of(&v1.PersistentVolumeClaim{ObjectMeta: before.ObjectMeta, Status: now.Status}, before.ResourceVersion)
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(old, fresh, v1.PersistentVolumeClaim{})
}

func (c *Claims) get(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("no answer within %v", claimTimeout))
	defer cancel()
	o, err := c.cfg.Client.PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("failed to fetch PVC from API server: %w", err)
	}
	return o, nil
}

// Volume returns the persistent volume of such a claim.
func (c *Claims) Volume(ctx context.Context, name string) (*v1.PersistentVolume, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("no answer within %v", claimTimeout))
	defer cancel()
	pv, err := c.cfg.Client.PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("failed to fetch PV %s from API server: %w", name, err)
	}
	return pv, nil
}

// Secret returns a secret that such a volume names.
func (c *Claims) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("no answer within %v", claimTimeout))
	defer cancel()
	return c.cfg.Client.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}
