package nodepressure

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memcg"
)

const (
	// breath is the least time between two looks at memory that the kernel has called for: use that
	// hovers at a bound has it call all the time.
	breath = 100 * time.Millisecond
	// moved is by how much a bound must have moved before the kernel is told of it, and refresh how often it is
	// told at most (the kubelet's notifierRefreshInterval): each time may take it long.
	moved, refresh = 1 << 20, 10 * time.Second
)

// newWatch is for one run. It goes by what is known at its start: other file systems make no difference to memory.
func (m *Manager) newWatch() *watch {
	return &watch{m: m, observer: m.observer, thresholds: m.thresholds, called: make(chan struct{}, 1), bells: map[options.Signal]*bell{}}
}

// run wakes the manager when a threshold of memory is met, until ctx ends. It looks when the
// kernel says that one has been crossed, and besides the sooner the less is left: the kernel's bound is
// on all that is used, and how much of that can be taken back changes meanwhile.
func (w *watch) run(ctx context.Context) {
	m := w.m
	defer w.ringing.Wait()
	for {
		left := w.look(ctx)
		if left < 0 {
			select {
			case m.wake <- struct{}{}:
			default:
			}
		}
		// The breath comes first, so that a bell that rings all the time is not heard all the time.
		select {
		case <-ctx.Done():
			return
		case <-m.cfg.Clock.After(breath):
		}
		select {
		case <-ctx.Done():
			return
		case <-w.called:
		case <-m.cfg.Clock.After(nextLook(left) - breath):
		}
	}
}

// watch is what is remembered between looks.
type watch struct {
	m          *Manager
	observer   observer
	thresholds []options.Threshold
	called     chan struct{} // by the kernel
	bells      map[options.Signal]*bell
	ringing    sync.WaitGroup
}

// look returns how much is left beyond the nearest threshold, negative if one is met, and tells the
// kernel where the thresholds are.
func (w *watch) look(ctx context.Context) (left int64) {
	left = math.MaxInt64
	seen := w.observer.memory(w.m.cfg.Clock.Now())
	if _, ok := seen[options.AllocatableMemoryAvailable]; !ok && slices.ContainsFunc(w.thresholds, func(t options.Threshold) bool {
		return t.Signal == options.AllocatableMemoryAvailable
	}) {
		left = pace // the limit of all pods is not set yet, as at the start: look again in a second
	}
	for s, o := range seen {
		nearest := int64(-1)
		for _, t := range w.thresholds {
			if t.Signal != s {
				continue
			}
			left = min(left, o.available-t.Of(o.capacity))
			// The highest that is not met yet; met ones are watched by looking.
			if n := t.Of(o.capacity); n <= o.available {
				nearest = max(nearest, n)
			}
		}
		if nearest >= 0 {
			w.tell(ctx, s, o, nearest)
		}
	}
	return left
}

// tell has the kernel call when less than amount is left of a signal.
func (w *watch) tell(ctx context.Context, s options.Signal, o observation, amount int64) {
	path := memcg.Root
	if s == options.AllocatableMemoryAvailable {
		path = w.m.cfg.Node.PodsCgroup
	}
	g, bound := memcg.Of(path), int64(0)
	if g.Bounded() {
		u, err := g.Read()
		if err != nil {
			return // there is no such cgroup just now
		}
		bound = boundFor(u.Used, o, amount)
	}
	b := w.bells[s]
	if b == nil {
		b = &bell{group: g, signal: s, bounds: make(chan int64, 1), called: w.called, clock: w.m.cfg.Clock}
		w.bells[s] = b
		w.ringing.Go(func() { b.run(ctx) })
	}
	select {
	case <-b.bounds: // the newest counts
	default:
	}
	b.bounds <- bound
}

// boundFor is how much of memory is used when no more than amount is available: if the use grows by what is
// available beyond that, and what can be taken back stays as it is. It asks for nothing about how available is
// counted, which is another way for the node than for the pods.
func boundFor(used int64, o observation, amount int64) int64 { return used + o.available - amount }

// bell has the kernel call when a bound is crossed. It has a goroutine of its own, since looking must not wait for
// the kernel to take a bound in.
type bell struct {
	group  memcg.Group
	signal options.Signal
	bounds chan int64
	called chan<- struct{}
	clock  clock.Clock
}

// run tells the kernel of bounds until ctx ends.
func (b *bell) run(ctx context.Context) {
	var n *memcg.Notifier
	var told int64
	var failing logonce.Error
	defer func() { n.Close() }()
	for {
		var bound int64
		select {
		case <-ctx.Done():
			return
		case bound = <-b.bounds:
		}
		if n != nil && max(bound-told, told-bound) < moved {
			continue
		}
		n.Close()
		var err error
		n, err = b.group.Notify(bound, func() {
			select {
			case b.called <- struct{}{}:
			default:
			}
		})
		told = bound
		if failing.Note(err) {
			klog.V(2).InfoS("The kernel does not tell when memory runs out, looking more often instead", "signal", b.signal, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.clock.After(refresh):
		}
	}
}
