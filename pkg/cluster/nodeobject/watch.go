package nodeobject

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Watch follows the one node object that is this node's. Safe for concurrent use.
type Watch struct {
	client kubernetes.Interface
	name   string
	seen   atomic.Pointer[v1.Node]
	synced chan struct{}
	once   sync.Once // closes synced
	// changed has a token when the pod CIDR may have changed since it was read last.
	changed chan struct{}

	mu    sync.Mutex // held while seen is changed
	lost  types.UID  // of the object that was deleted last
	asked *v1.Node   // the newest answer to Refresh, while the watch may be behind it
	until time.Time  // and no longer
}

// behind is how long the watch may be behind an answer to Refresh. After that its order is
// the truth again, also where versions went backwards: an API server restored from a backup.
const behind = time.Minute

// NewWatch returns a Watch that has seen nothing until Run. client has the agent's limits.
func NewWatch(client kubernetes.Interface, name string) *Watch {
	return &Watch{client: client, name: name, synced: make(chan struct{}), changed: make(chan struct{}, 1)}
}

// Node returns the node object as last seen, nil before that and while it is deleted. It
// must not be changed.
func (w *Watch) Node() *v1.Node { return w.seen.Load() }

// UID returns the UID of the node object, "" while it is not known.
func (w *Watch) UID() types.UID {
	if n := w.Node(); n != nil {
		return n.UID
	}
	return ""
}

// Synced is closed once the node object has been seen.
func (w *Watch) Synced() <-chan struct{} { return w.synced }

// PodCIDR returns the addresses that the cluster has given this node for its pods: one CIDR, or one of
// each family separated by a comma, as CRI takes them; "" while there are none. known tells whether
// there is a node object, so that there will be.
func (w *Watch) PodCIDR() (cidr string, known bool) {
	n := w.Node()
	if n == nil {
		return "", false
	}
	return strings.Join(n.Spec.PodCIDRs, ","), true
}

// PodCIDRChanged has a token when PodCIDR has changed since it was read last. It has one reader.
func (w *Watch) PodCIDRChanged() <-chan struct{} { return w.changed }

// store makes n the object as last seen. The caller holds mu.
func (w *Watch) store(n *v1.Node) {
	had := w.seen.Swap(n)
	if had != nil && slices.Equal(had.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends. It is called once.
func (w *Watch) Run(ctx context.Context) error {
	lw := cache.NewListWatchFromClient(w.client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll, fields.OneTermEqualSelector(metav1.ObjectNameField, w.name))
	see := func(obj any) {
		if n, ok := obj.(*v1.Node); ok {
			w.see(n)
		}
	}
	// Deleting a node is taken as intended, so the agent does not create it again while
	// it runs (kubelet behaviour). If somebody else creates it, it is used again.
	lose := func(any) {
		w.lose()
		klog.InfoS("The node object was deleted: this node is not part of the cluster until the agent is restarted", "node", w.name)
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw, ObjectType: &v1.Node{},
		Handler: cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, now any) { see(now) }, DeleteFunc: lose},
	})
	informer.RunWithContext(ctx)
	return nil
}

// Refresh asks the API server for the node object as it is now: Node then returns that, or a newer
// one. The watch alone is late at times.
func (w *Watch) Refresh(ctx context.Context) error {
	n, err := w.client.CoreV1().Nodes().Get(ctx, w.name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get node %s: %w", w.name, err)
	}
	w.answer(n)
	return nil
}

// see takes in the object from the watch, unless Refresh has just got a newer one.
func (w *Watch) see(n *v1.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked != nil && older(n, w.asked) && time.Now().Before(w.until) {
		return
	}
	w.asked = nil
	if n.UID == w.lost {
		w.lost = "" // it is back: an API server that was restored
	}
	w.store(n)
	w.once.Do(func() { close(w.synced) })
}

// answer takes in an answer to Refresh, unless the watch has told more since: of a newer object, or
// that it was deleted.
func (w *Watch) answer(n *v1.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if had := w.seen.Load(); had != nil && older(n, had) || n.UID != "" && n.UID == w.lost {
		return
	}
	w.asked, w.until = n, time.Now().Add(behind)
	w.store(n)
	w.once.Do(func() { close(w.synced) })
}

func (w *Watch) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if had := w.seen.Load(); had != nil {
		w.lost = had.UID
	}
	w.asked = nil
	w.seen.Store(nil)
}
