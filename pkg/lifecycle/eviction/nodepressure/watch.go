package nodepressure

import (
	"context"
	"math"
	"time"

	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memcg"
)

// breath is the least time between two looks at memory that the kernel has called for: use that
// hovers at a bound has it call all the time.
const breath = 100 * time.Millisecond

// moved is by how much a bound must have moved before the kernel is told of it.
const moved = 1 << 20

// watchMemory wakes the manager when a threshold of memory is met, until ctx ends. It looks when the
// kernel says that one has been crossed, and besides the sooner the less is left: the kernel's bound is
// on all that is used, and how much of that can be taken back changes meanwhile.
func (m *Manager) watchMemory(ctx context.Context) {
	w := watch{m: m, called: make(chan struct{}, 1), bells: map[options.Signal]*bell{}}
	defer w.close()
	for {
		left := w.look()
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
	m      *Manager
	called chan struct{} // by the kernel
	bells  map[options.Signal]*bell
}

// bell is a bound that the kernel was told.
type bell struct {
	n       *memcg.Notifier
	bound   int64
	failing logonce.Error
}

// look returns how much is left beyond the nearest threshold, negative if one is met, and tells the
// kernel where the thresholds are.
func (w *watch) look() (left int64) {
	left = math.MaxInt64
	seen := w.m.observer.memory(w.m.cfg.Clock.Now())
	for s, o := range seen {
		nearest := int64(-1)
		for _, t := range w.m.thresholds {
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
			w.tell(s, o, nearest)
		}
	}
	return left
}

// tell has the kernel call when less than amount is left of a signal.
func (w *watch) tell(s options.Signal, o observation, amount int64) {
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
		bound = o.capacity - amount + u.InactiveFile // on what is used, while available goes by the working set
	}
	b := w.bells[s]
	if b == nil {
		b = &bell{}
		w.bells[s] = b
	}
	if b.n != nil && max(bound-b.bound, b.bound-bound) < moved {
		return
	}
	var err error
	b.n.Close()
	b.n, err = g.Notify(bound, func() {
		select {
		case w.called <- struct{}{}:
		default:
		}
	})
	b.bound = bound
	if b.failing.Note(err) {
		klog.V(2).InfoS("The kernel does not tell when memory runs out, looking more often instead", "signal", s, "err", err)
	}
}

func (w *watch) close() {
	for _, b := range w.bells {
		b.n.Close()
	}
}
