package podobjects

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// minWatch is the least time before the server ends a watch, as in the kubelet.
const minWatch = 30 * time.Minute

// api is how objects of one kind are requested.
type api struct {
	example runtime.Object
	get     func(ctx context.Context, namespace, name string, o metav1.GetOptions) (metav1.Object, error)
	list    func(ctx context.Context, namespace string, o metav1.ListOptions) (runtime.Object, error)
	watch   func(ctx context.Context, namespace string, o metav1.ListOptions) (watch.Interface, error)
}

func apis(client core.CoreV1Interface) map[kind]api {
	return map[kind]api{
		configMap: {
			example: &v1.ConfigMap{},
			get: func(ctx context.Context, namespace, name string, o metav1.GetOptions) (metav1.Object, error) {
				return client.ConfigMaps(namespace).Get(ctx, name, o)
			},
			list: func(ctx context.Context, namespace string, o metav1.ListOptions) (runtime.Object, error) {
				return client.ConfigMaps(namespace).List(ctx, o)
			},
			watch: func(ctx context.Context, namespace string, o metav1.ListOptions) (watch.Interface, error) {
				return client.ConfigMaps(namespace).Watch(ctx, o)
			},
		},
		secret: {
			example: &v1.Secret{},
			get: func(ctx context.Context, namespace, name string, o metav1.GetOptions) (metav1.Object, error) {
				return client.Secrets(namespace).Get(ctx, name, o)
			},
			list: func(ctx context.Context, namespace string, o metav1.ListOptions) (runtime.Object, error) {
				return client.Secrets(namespace).List(ctx, o)
			},
			watch: func(ctx context.Context, namespace string, o metav1.ListOptions) (watch.Interface, error) {
				return client.Secrets(namespace).Watch(ctx, o)
			},
		},
	}
}

// watch starts the watch of an entry if Run is running; Run waits for it. Called
// with the lock held.
func (c *Cache) watch(e *entry) {
	if c.running == nil || e.stop != nil || c.cfg.Strategy != kubeletconfig.WatchChangeDetectionStrategy {
		return
	}
	ctx, cancel := context.WithCancel(c.running)
	e.stop = cancel
	how := c.kinds[e.key.kind]
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, e.key.name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			l, err := how.list(ctx, e.key.namespace, o)
			return l, c.asked(e, err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			w, err := how.watch(ctx, e.key.namespace, o)
			return w, c.asked(e, err)
		},
	}
	r := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, c.cfg.Client), how.example, store{c, e}, cache.ReflectorOptions{
		Name:            fmt.Sprintf("%s %s/%s", e.key.kind, e.key.namespace, e.key.name),
		MinWatchTimeout: minWatch,
	})
	c.watches.Go(func() { r.RunWithContext(ctx) })
}

// asked notes the result of the last question to the server.
func (c *Cache) asked(e *entry, err error) error {
	if err != nil {
		c.mu.Lock()
		e.err = err
		c.mu.Unlock()
	}
	return err
}

// store is where a reflector puts the one object that it watches.
type store struct {
	c *Cache
	e *entry
}

var _ cache.ReflectorStore = store{}

func (s store) Add(o any) error    { return s.put(o) }
func (s store) Update(o any) error { return s.put(o) }
func (s store) Resync() error      { return nil }

func (s store) Delete(any) error {
	s.c.set(s.e, nil)
	return nil
}

func (s store) Replace(list []any, _ string) error {
	for _, o := range list {
		return s.put(o)
	}
	s.c.set(s.e, nil)
	return nil
}

func (s store) put(o any) error {
	object, ok := o.(metav1.Object)
	if !ok {
		return fmt.Errorf("watch of %s %s/%s: got a %T", s.e.key.kind, s.e.key.namespace, s.e.key.name, o)
	}
	s.c.set(s.e, object)
	return nil
}
