package podobjects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/clock"
)

// Limits on how long a caller waits.
const (
	syncWait   = 5 * time.Second // for the first answer, from the first reference on
	defaultTTL = time.Minute     // for the Cache strategy, as in the kubelet
)

// Config is what a Cache is made of.
type Config struct {
	Client core.CoreV1Interface
	// Strategy is configMapAndSecretChangeDetectionStrategy: Watch, Cache or Get; "" is
	// Watch.
	Strategy kubeletconfig.ResourceChangeDetectionStrategy
	// TTL returns how long the Cache strategy trusts an answer, by the Node's
	// annotation node.alpha.kubernetes.io/ttl; nil is 1 min.
	TTL func() time.Duration
	// Changed is called with the pods that refer to an object that has changed,
	// appeared or gone, in no order. It must not block. Only with Watch; nil tells
	// nobody.
	Changed func(pods []types.UID)
	Clock   clock.PassiveClock // nil is the real one
	// Patience is how long a caller waits for the API server's first answer; 0 is 5 s.
	Patience time.Duration
}

// Cache gives ConfigMaps and Secrets of registered pods. Safe for concurrent use.
// Objects that it returns are shared and must not be changed.
type Cache struct {
	cfg   Config
	kinds map[kind]api

	mu      sync.Mutex
	running context.Context // of Run; nil before and after
	pods    map[types.UID]registered
	entries map[key]*entry
	watches sync.WaitGroup
}

// registered is a pod and the objects that it refers to.
type registered struct {
	pod  *v1.Pod
	refs map[key]struct{}
}

// entry is one object that registered pods refer to. Guarded by Cache.mu.
type entry struct {
	key    key
	pods   map[types.UID]struct{}
	object metav1.Object // nil: there is none
	synced chan struct{} // closed once object is known

	patience time.Time          // until when callers wait for the first answer
	stop     context.CancelFunc // of the watch; nil when none was started
	err      error              // why the last question to the server failed
	missed   bool               // somebody got no answer

	fetching chan struct{} // Cache and Get: held by the one who asks
	fetched  time.Time     // Cache: when it was asked last; zero when stale
}

// New checks the configuration.
func New(cfg Config) (*Cache, error) {
	if cfg.Client == nil {
		return nil, errors.New("podobjects: no Client")
	}
	switch cfg.Strategy {
	case "":
		cfg.Strategy = kubeletconfig.WatchChangeDetectionStrategy
	case kubeletconfig.WatchChangeDetectionStrategy, kubeletconfig.TTLCacheChangeDetectionStrategy, kubeletconfig.GetChangeDetectionStrategy:
	default:
		return nil, fmt.Errorf("podobjects: unknown strategy %q", cfg.Strategy)
	}
	if cfg.TTL == nil {
		cfg.TTL = func() time.Duration { return defaultTTL }
	}
	if cfg.Changed == nil {
		cfg.Changed = func([]types.UID) {}
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	cfg.Patience = cmp.Or(cfg.Patience, syncWait)
	return &Cache{
		cfg: cfg, kinds: apis(cfg.Client),
		pods: map[types.UID]registered{}, entries: map[key]*entry{},
	}, nil
}

// Run keeps the watches until ctx ends and returns when the last has stopped.
// What was known stays known. It is called once.
func (c *Cache) Run(ctx context.Context) error {
	c.mu.Lock()
	c.running = ctx
	for _, e := range c.entries {
		c.watch(e)
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.running = nil
	c.mu.Unlock()
	c.watches.Wait()
	return nil
}

// Register watches the objects that the pod refers to until Unregister. A pod that
// is registered again is registered with what it refers to now. It does not wait,
// and costs next to nothing for a pod that has not changed.
func (c *Cache) Register(pod *v1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.pods[pod.UID]
	if before.pod == pod {
		return
	}
	now := registered{pod, references(pod)}
	c.pods[pod.UID] = now
	for k := range now.refs {
		e := c.entries[k]
		if e == nil {
			e = &entry{
				key: k, pods: map[types.UID]struct{}{}, synced: make(chan struct{}),
				patience: time.Now().Add(c.cfg.Patience), fetching: make(chan struct{}, 1),
			}
			c.entries[k] = e
			c.watch(e)
		}
		if _, known := e.pods[pod.UID]; !known {
			e.pods[pod.UID] = struct{}{}
			e.fetched = time.Time{} // a new pod sees what exists now
		}
	}
	for k := range before.refs {
		if _, still := now.refs[k]; !still {
			c.release(k, pod.UID)
		}
	}
}

// Unregister forgets the pod and what only it referred to. Fine for an unknown pod.
func (c *Cache) Unregister(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.pods[uid].refs {
		c.release(k, uid)
	}
	delete(c.pods, uid)
}

// release drops the pod's reference, and with the last one the watch. Called with
// the lock held.
func (c *Cache) release(k key, uid types.UID) {
	e := c.entries[k]
	delete(e.pods, uid)
	if len(e.pods) > 0 {
		return
	}
	delete(c.entries, k)
	if e.stop != nil {
		e.stop()
	}
}

// ConfigMap returns a ConfigMap that a registered pod refers to. It waits for the
// API server's first answer, until 5 s after the first pod was registered: a pod
// with many objects waits for all of them together, and if one is still unknown,
// Changed tells of it later. If there is no such object, the error satisfies
// apierrors.IsNotFound.
func (c *Cache) ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error) {
	o, err := c.get(ctx, key{configMap, namespace, name})
	if err != nil {
		return nil, err
	}
	return o.(*v1.ConfigMap), nil
}

// Secret is ConfigMap for Secrets.
func (c *Cache) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	o, err := c.get(ctx, key{secret, namespace, name})
	if err != nil {
		return nil, err
	}
	return o.(*v1.Secret), nil
}

func (c *Cache) get(ctx context.Context, k key) (metav1.Object, error) {
	c.mu.Lock()
	e := c.entries[k]
	c.mu.Unlock()
	if e == nil {
		return nil, fmt.Errorf("object %q/%q not registered", k.namespace, k.name)
	}
	timedOut := errors.New("timed out waiting for the condition")
	if c.cfg.Strategy != kubeletconfig.WatchChangeDetectionStrategy {
		ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Patience, timedOut)
		defer cancel()
		return c.fetch(ctx, e)
	}
	select {
	case <-e.synced: // common case: no timer needed
	default:
		ctx, cancel := context.WithDeadlineCause(ctx, e.patience, timedOut)
		defer cancel()
		select {
		case <-e.synced:
		case <-ctx.Done():
			if err := c.unanswered(ctx, e); err != nil {
				return nil, err
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return e.answer()
}

// unanswered returns why nothing is known about the object yet, or nil if it is
// known after all.
func (c *Cache) unanswered(ctx context.Context, e *entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-e.synced:
		return nil
	default:
	}
	e.missed = true
	err := fmt.Errorf("failed to sync %s cache: %w", e.key.kind, context.Cause(ctx))
	if e.err != nil {
		err = fmt.Errorf("%w: %w", err, e.err)
	}
	return err
}

// answer is called with the lock held.
func (e *entry) answer() (metav1.Object, error) {
	if e.object == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: string(e.key.kind)}, e.key.name)
	}
	return e.object, nil
}

// set notes the current object, nil for none, and tells of a change.
func (c *Cache) set(e *entry, now metav1.Object) {
	c.mu.Lock()
	e.err = nil
	news := !same(e.object, now)
	e.object = now
	select {
	case <-e.synced:
	default:
		close(e.synced)
		news = e.missed // whoever still waits gets the answer itself
	}
	var pods []types.UID
	if news {
		pods = make([]types.UID, 0, len(e.pods))
		for uid := range e.pods {
			pods = append(pods, uid)
		}
	}
	if immutable(now) && e.stop != nil {
		e.stop() // it can only be deleted, and then its pods keep it
	}
	c.mu.Unlock()
	if len(pods) > 0 {
		c.cfg.Changed(slices.Clip(pods))
	}
}

// same reports whether two answers are the same version of an object.
func same(a, b metav1.Object) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.GetUID() == b.GetUID() && a.GetResourceVersion() == b.GetResourceVersion() && a.GetResourceVersion() != ""
}

func immutable(o metav1.Object) bool {
	switch o := o.(type) {
	case *v1.ConfigMap:
		return o.Immutable != nil && *o.Immutable
	case *v1.Secret:
		return o.Immutable != nil && *o.Immutable
	}
	return false
}
