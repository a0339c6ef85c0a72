package source

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// APIConfig is what an APISource is made of.
type APIConfig struct {
	Client   kubernetes.Interface
	NodeName string
	// Ready is closed when pods may be judged, because the node's labels and taints are
	// known; nil: at once.
	Ready <-chan struct{}
	// Journal notes each list that the watch gives; nil: nobody does.
	Journal *journal.Journal
}

// APISource gives the pods that the API server has bound to this node: one watch
// with a field selector, whose cache it passes on. While the API server is away its
// pods stay as they were.
type APISource struct {
	cfg APIConfig
	now chan []*v1.Pod // the newest list, not yet passed on
}

// NewAPI checks the configuration.
func NewAPI(cfg APIConfig) (*APISource, error) {
	if cfg.Client == nil || cfg.NodeName == "" {
		return nil, errors.New("API source: no Client or NodeName")
	}
	return &APISource{cfg: cfg, now: make(chan []*v1.Pod, 1)}, nil
}

// Run sends a snapshot after the first list and after each change, until ctx ends.
// Changes that come faster than they are received are merged. Run it once.
func (s *APISource) Run(ctx context.Context, out chan<- Snapshot) error {
	if s.cfg.Ready != nil {
		select {
		case <-s.cfg.Ready:
		case <-ctx.Done():
			return nil
		}
	}
	lw := cache.NewListWatchFromClient(s.cfg.Client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll,
		fields.OneTermEqualSelector("spec.nodeName", s.cfg.NodeName))
	store := cache.NewUndeltaStore(s.push, cache.MetaNamespaceKeyFunc)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		cache.NewReflectorWithOptions(lw, &v1.Pod{}, store, cache.ReflectorOptions{Name: "pods of node " + s.cfg.NodeName}).RunWithContext(ctx)
	}()
	defer func() { <-watched }()
	var next Snapshot
	var to chan<- Snapshot // out while next waits to be received
	for {
		select {
		case <-ctx.Done():
			return nil
		case wanted := <-s.now:
			next, to = Snapshot{Source: pods.SourceAPI, Pods: wanted, Cause: s.cfg.Journal.Note(journal.Event{
				Kind: journal.Source, Name: pods.SourceAPI, Reason: "watch", Detail: found{pods: len(wanted)},
			})}, out
		case to <- next:
			to = nil
		}
	}
}

// push keeps the newest list for Run. Only the reflector calls it.
func (s *APISource) push(objs []any) {
	pods := make([]*v1.Pod, 0, len(objs))
	for _, o := range objs {
		if p, ok := o.(*v1.Pod); ok {
			pods = append(pods, p)
		}
	}
	for {
		select {
		case s.now <- pods:
			return
		default:
		}
		select {
		case <-s.now: // older
		default:
		}
	}
}
