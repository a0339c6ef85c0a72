package podobjects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// errNoTokens is why a standalone node cannot make a volume from a token.
var errNoTokens = errors.New("a standalone node has nobody who issues service-account tokens")

// errNoAnchors is why it cannot make one from a cluster's trust bundles.
var errNoAnchors = errors.New("a standalone node has no cluster whose trust bundles it could give")

// LocalConfig is what a Local is made of.
type LocalConfig struct {
	// Changed is called with the registered pods that refer to an object that has
	// changed, appeared or gone, in no order. It must not block; nil tells nobody.
	Changed func(pods []types.UID)
	// Labels are the node's, for the node affinity of persistent volumes.
	Labels map[string]string
	// Bindings is the file that records which claim has which volume; "": nothing is
	// recorded.
	Bindings string
	// Held returns the volumes that pods of this node are set up with, each with the claim
	// that it was found by: what the record is rebuilt of if it is lost. nil: none are known.
	Held func() ([]*v1.PersistentVolume, error)
}

// Local provides the objects of a standalone node: those in its manifests. Safe for
// concurrent use. Objects that it returns are shared and must not be changed.
type Local struct {
	changed func(pods []types.UID)

	mu       sync.Mutex
	complete bool
	objects  map[key]metav1.Object
	claims   localClaims
	pods     map[types.UID]registered
}

// NewLocal returns a Local that has nothing and is not complete.
func NewLocal(c LocalConfig) (*Local, error) {
	if c.Changed == nil {
		c.Changed = func([]types.UID) {}
	}
	bound, err := loadBindings(c.Bindings, c.Held)
	if err != nil {
		return nil, err
	}
	return &Local{
		changed: c.Changed, objects: map[key]metav1.Object{}, pods: map[types.UID]registered{},
		claims: localClaims{file: c.Bindings, labels: c.Labels, bound: bound, unsaved: len(bound) > 0},
	}, nil
}

// Set replaces all objects, *v1.ConfigMap, *v1.Secret, *v1.PersistentVolume and
// *v1.PersistentVolumeClaim, by these, which are not changed afterwards. complete
// means that every source of objects has spoken: until then a missing object may
// only not have been read yet, and no further claim is bound.
func (l *Local) Set(all []metav1.Object, complete bool) {
	now := make(map[key]metav1.Object, len(all))
	for _, o := range all {
		now[key{kindOf(o), o.GetNamespace(), o.GetName()}] = o
	}
	l.mu.Lock()
	news := l.claims.settle(now, complete)
	for k, o := range now {
		if (k.kind == configMap || k.kind == secret) && !sameData(l.objects[k], o) {
			news[k] = true
		}
	}
	for k := range l.objects {
		if now[k] == nil {
			news[k] = true
		}
	}
	for _, c := range l.claims.answers {
		if c.volume != nil && slices.ContainsFunc(volumeSecrets(c.volume), func(k key) bool { return news[k] }) {
			news[key{claim, c.claim.Namespace, c.claim.Name}] = true
		}
	}
	completed := complete && !l.complete
	l.objects, l.complete = now, complete
	var pods []types.UID
	for uid, r := range l.pods {
		for k := range r.refs {
			if news[k] || completed && now[k] == nil {
				pods = append(pods, uid)
				break
			}
		}
	}
	l.mu.Unlock()
	if len(pods) > 0 {
		l.changed(pods)
	}
}

// Register has changed told of the pod until Unregister. A pod that is registered
// again is registered with what it refers to now.
func (l *Local) Register(pod *v1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pods[pod.UID].pod != pod {
		refs := references(pod)
		for _, k := range claimReferences(pod) {
			refs[k] = struct{}{}
		}
		l.pods[pod.UID] = registered{pod, refs}
	}
}

// Unregister forgets the pod. Fine for an unknown pod.
func (l *Local) Unregister(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pods, uid)
}

// ConfigMap returns a ConfigMap of the manifests. If they have none of that name,
// the error satisfies apierrors.IsNotFound; not while some are still unread.
func (l *Local) ConfigMap(_ context.Context, namespace, name string) (*v1.ConfigMap, error) {
	o, err := l.get(key{configMap, namespace, name})
	if err != nil {
		return nil, err
	}
	return o.(*v1.ConfigMap), nil
}

// Secret is ConfigMap for Secrets.
func (l *Local) Secret(_ context.Context, namespace, name string) (*v1.Secret, error) {
	o, err := l.get(key{secret, namespace, name})
	if err != nil {
		return nil, err
	}
	return o.(*v1.Secret), nil
}

// Token refuses: only an API server issues tokens.
func (l *Local) Token(context.Context, *v1.Pod, string, int64) (string, error) {
	return "", errNoTokens
}

// TrustAnchors refuses: only an API server has ClusterTrustBundles.
func (l *Local) TrustAnchors(context.Context, *v1.ClusterTrustBundleProjection) ([]byte, error) {
	return nil, errNoAnchors
}

func (l *Local) get(k key) (metav1.Object, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch o := l.objects[k]; {
	case o != nil:
		return o, nil
	case !l.complete:
		return nil, unread(k.kind, k.name)
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: string(k.kind)}, k.name)
}

// unread is the error for a missing object before every source has spoken.
func unread(k kind, name string) error {
	return fmt.Errorf("%s %q is not known yet: not all manifests have been read", k, name)
}

func kindOf(o metav1.Object) kind {
	switch o.(type) {
	case *v1.Secret:
		return secret
	case *v1.PersistentVolume:
		return volume
	case *v1.PersistentVolumeClaim:
		return claim
	}
	return configMap
}

// sameData reports whether pods see no difference between two ConfigMaps or Secrets.
func sameData(a, b metav1.Object) bool {
	switch a := a.(type) {
	case *v1.ConfigMap:
		b, ok := b.(*v1.ConfigMap)
		return ok && maps.Equal(a.Data, b.Data) && maps.EqualFunc(a.BinaryData, b.BinaryData, bytes.Equal)
	case *v1.Secret:
		b, ok := b.(*v1.Secret)
		return ok && a.Type == b.Type && maps.EqualFunc(a.Data, b.Data, bytes.Equal)
	}
	return false
}
