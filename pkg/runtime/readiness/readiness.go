package readiness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
)

// Runtime is what the container runtime is asked and told.
type Runtime interface {
	Status(context.Context, *cri.StatusRequest, ...grpc.CallOption) (*cri.StatusResponse, error)
	UpdateRuntimeConfig(context.Context, *cri.UpdateRuntimeConfigRequest, ...grpc.CallOption) (*cri.UpdateRuntimeConfigResponse, error)
}

// Config is what a Watch is made of. Runtime is required.
type Config struct {
	Runtime Runtime
	// PodCIDR returns the addresses for pods as far as they are known: "" until then, one CIDR, or
	// one of each family separated by a comma; and whether the node that has them is known. Changed
	// has a token when that may have changed; nil: it never does.
	PodCIDR func() (cidr string, node bool)
	Changed <-chan struct{}
	// File keeps the last PodCIDR for a start at which the node is not known for 10 s: nothing that
	// runs here waits for the API server any longer. "": none is kept.
	File string
	// Wake is given the pods that have waited for the network. It does not block.
	Wake func([]types.UID)
	// Improved is called when the runtime or its network has become ready. It does not block. What
	// becomes worse is nobody's hurry: a runtime that is restarted should leave no trace.
	Improved func()
}

// Watch follows the state of the runtime and its network. Its methods are safe for concurrent use.
type Watch struct {
	cfg     Config
	looking chan struct{} // holds a token while nobody looks
	looked  chan struct{} // closed after the first look

	mu      sync.Mutex
	health  health
	silent  bool // the last look had no answer
	told    told
	waiting map[types.UID]struct{}

	// Used by Run only.
	kept             string        // what File holds
	without          time.Time     // since when nothing is known of the node
	failing, refused logonce.Error // looks and pod CIDRs
}

// New returns a Watch that knows nothing until Run.
func New(cfg Config) (*Watch, error) {
	if cfg.Runtime == nil {
		return nil, errors.New("readiness: no Runtime")
	}
	if cfg.PodCIDR == nil {
		cfg.PodCIDR = func() (string, bool) { return "", false }
	}
	if cfg.Wake == nil {
		cfg.Wake = func([]types.UID) {}
	}
	if cfg.Improved == nil {
		cfg.Improved = func() {}
	}
	w := &Watch{
		cfg: cfg, looking: make(chan struct{}, 1), looked: make(chan struct{}),
		health: health{network: errUnknown}, waiting: map[types.UID]struct{}{},
	}
	w.looking <- struct{}{}
	return w, nil
}

// Network returns why the pod's sandbox cannot be attached to the network now, nil if it can. It
// waits for the first look at the runtime. A pod that is told a reason is given to Config.Wake
// once the network is ready.
func (w *Watch) Network(ctx context.Context, pod types.UID) error {
	select {
	case <-w.looked:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.health.network != nil {
		w.waiting[pod] = struct{}{}
	}
	return w.health.network
}

// Forget drops a pod that has been told a reason and is not to start any more.
func (w *Watch) Forget(pod types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, pod)
}

// Run follows the runtime until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	w.recall()
	w.without = time.Now()
	first := true
	for {
		w.tell(ctx)
		_, err := w.Look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if w.failing.Note(err) {
			klog.ErrorS(err, "The container runtime does not say how it is; asking again")
		}
		if first {
			close(w.looked)
			first = false
		}
		w.keep() // last: nobody has to wait for a disk that hangs
		if !w.rest(ctx) {
			return nil
		}
	}
}

// rest waits until the next look, and reports whether there is to be one.
func (w *Watch) rest(ctx context.Context) bool {
	w.mu.Lock()
	d := pause(w.health, !w.silent)
	w.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-w.cfg.Changed:
			if _, due := w.due(); due {
				return true
			}
		}
	}
}

// Look asks the runtime how it is, and takes that in. It is given up after 30 s.
func (w *Watch) Look(ctx context.Context) (*cri.StatusResponse, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookLimit, fmt.Errorf("no answer within %v", lookLimit))
	defer cancel()
	select {
	case <-w.looking: // one at a time, so that an old answer never follows a newer one
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { w.looking <- struct{}{} }()
	r, err := w.cfg.Runtime.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		w.take(health{}, err)
		return nil, err
	}
	w.take(healthOf(r.GetStatus()), nil)
	return r, nil
}

// take takes in what a look came to. Without an answer the last one still holds.
func (w *Watch) take(is health, err error) {
	w.mu.Lock()
	was, back := w.health, w.silent && err == nil
	if w.silent = err != nil; w.silent {
		w.mu.Unlock()
		return
	}
	w.health = is
	if back || was.network == nil && is.network != nil {
		w.told = w.told.forgotten()
	}
	var free []types.UID
	if is.network == nil {
		free = slices.Collect(maps.Keys(w.waiting))
		clear(w.waiting)
	}
	w.mu.Unlock()
	switch {
	case is.network == nil && was.network != nil:
		klog.InfoS("The pod network is ready", "podsThatWaited", len(free))
	case is.network != nil && (was.network == nil || was.network.Error() != is.network.Error()):
		klog.InfoS("The pod network is not ready; pods that need it wait", "reason", is.network)
	}
	if better(was, is) {
		w.cfg.Improved()
	}
	if len(free) > 0 {
		w.cfg.Wake(free)
	}
}

// due returns the pod CIDR, and whether the runtime is to be told of it now.
func (w *Watch) due() (cidr string, due bool) {
	known, node := w.cfg.PodCIDR()
	now := time.Now()
	if node {
		w.without = now
		if known == "" {
			w.kept = "" // it was another node's: what a node has never changes
		}
	}
	cidr = wanted(known, node, w.kept, now.Sub(w.without))
	w.mu.Lock()
	defer w.mu.Unlock()
	return cidr, w.told.due(cidr, w.health.ready(), now)
}

// tell tells the runtime the pod CIDR, if that is due.
func (w *Watch) tell(ctx context.Context) {
	cidr, due := w.due()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lookLimit, fmt.Errorf("no answer within %v", lookLimit))
	defer cancel()
	_, err := w.cfg.Runtime.UpdateRuntimeConfig(ctx, &cri.UpdateRuntimeConfigRequest{
		RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: cidr}},
	})
	needless := status.Code(err) == codes.Unimplemented
	if needless {
		err = nil
	}
	w.mu.Lock()
	before := w.told
	w.told = w.told.took(cidr, time.Now(), err)
	w.mu.Unlock()
	switch {
	case w.refused.Note(err):
		klog.ErrorS(err, "The container runtime has not taken the pod CIDR, trying again", "podCIDR", cidr)
	case err != nil || before.accepted == cidr:
	case needless:
		klog.V(2).InfoS("The container runtime needs no pod CIDR", "podCIDR", cidr)
	default:
		klog.InfoS("The container runtime has the pod CIDR", "podCIDR", cidr)
	}
}

const lost = "The addresses for this node's pods. Until the API server or the configuration tells them, a network that needs them is not ready."

// recall reads what File holds.
func (w *Watch) recall() {
	if w.cfg.File == "" {
		return
	}
	var kept string
	err := durable.Load(w.cfg.File, lost, func(text []byte) error {
		kept = string(text)
		return options.CheckPodCIDR(kept)
	})
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			klog.ErrorS(err, "Could not read the last pod CIDR, waiting for the API server's", "path", w.cfg.File)
		}
		return
	}
	w.kept = kept
}

// keep writes the node's pod CIDR into File if it is new.
func (w *Watch) keep() {
	cidr, _ := w.cfg.PodCIDR()
	if w.cfg.File == "" || cidr == "" || cidr == w.kept {
		return
	}
	if err := durable.Write(w.cfg.File, []byte(cidr)); err != nil {
		klog.ErrorS(err, "Could not keep the pod CIDR; the next start waits for the API server's", "path", w.cfg.File)
	}
	w.kept = cidr // a full disk is not written to again and again
}
