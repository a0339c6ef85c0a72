package podobjects

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
)

// errNotRead is the kubelet's error for a pod whose containers cannot be told of
// services yet.
var errNotRead = errors.New("services have not yet been read at least once, cannot construct envvars")

// Services gives those of the whole cluster, from one watch: a node may read all of
// them. Safe for concurrent use.
type Services struct{ informed }

// NewServices returns the Services that client sees.
func NewServices(client core.CoreV1Interface) (*Services, error) {
	if client == nil {
		return nil, errors.New("services: no client")
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return client.Services(metav1.NamespaceAll).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Services(metav1.NamespaceAll).Watch(ctx, o)
		},
	}
	informer := cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(lw, client), &v1.Service{}, 0,
		cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	if err := informer.SetTransform(essence); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return &Services{informed{informer: informer, unread: errNotRead}}, nil
}

// essence strips a service to the fields that containers can see: there may be
// thousands.
func essence(o any) (any, error) {
	s, ok := o.(*v1.Service)
	if !ok {
		return o, nil
	}
	return &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion},
		Spec:       v1.ServiceSpec{ClusterIP: s.Spec.ClusterIP, Ports: s.Spec.Ports},
	}, nil
}

// Of returns what is known about the services in the namespaces: names, addresses
// and ports. They are shared and must not be changed.
func (s *Services) Of(namespaces ...string) ([]*v1.Service, error) {
	var all []*v1.Service
	for _, n := range namespaces {
		found, err := s.informer.GetIndexer().ByIndex(cache.NamespaceIndex, n)
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			if service, ok := o.(*v1.Service); ok {
				all = append(all, service)
			}
		}
	}
	return all, nil
}
