package podobjects

import (
	"context"
	"errors"
	"fmt"

	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	nodeclient "k8s.io/client-go/kubernetes/typed/node/v1"
	"k8s.io/client-go/tools/cache"
)

// RuntimeClasses gives those of the cluster, from one watch: sandboxes can be made
// even while the API server is away. Safe for concurrent use.
type RuntimeClasses struct{ informed }

// NewRuntimeClasses returns the RuntimeClasses that client sees.
func NewRuntimeClasses(client nodeclient.NodeV1Interface) (*RuntimeClasses, error) {
	if client == nil {
		return nil, errors.New("runtime classes: no client")
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return client.RuntimeClasses().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.RuntimeClasses().Watch(ctx, o)
		},
	}
	informer := cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(lw, client), &nodev1.RuntimeClass{}, 0, nil)
	return &RuntimeClasses{informed{informer: informer, unread: errors.New("RuntimeClasses have not yet been read at least once")}}, nil
}

// Handler returns the runtime handler that a class names. It waits for the classes as
// Wait does. If there is no such class, the error satisfies apierrors.IsNotFound.
func (c *RuntimeClasses) Handler(ctx context.Context, class string) (string, error) {
	if err := c.Wait(ctx); err != nil {
		return "", fmt.Errorf("failed to lookup RuntimeClass %s: %w", class, err)
	}
	o, ok, err := c.informer.GetIndexer().GetByKey(class)
	if err != nil {
		return "", fmt.Errorf("failed to lookup RuntimeClass %s: %w", class, err)
	}
	found, isClass := o.(*nodev1.RuntimeClass)
	if !ok || !isClass {
		return "", apierrors.NewNotFound(nodev1.Resource("runtimeclass"), class)
	}
	return found.Handler, nil
}
