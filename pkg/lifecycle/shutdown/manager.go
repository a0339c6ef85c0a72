package shutdown

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
)

// What the status of a pod says that a shutdown has ended, in the kubelet's words.
const (
	Reason     = "Terminated"
	podMessage = "Pod was terminated in response to imminent node shutdown."
)

const (
	reconnect = time.Second            // between attempts to reach logind
	look      = 200 * time.Millisecond // between looks at who still runs, during a shutdown only
)

// Machine is who shuts the machine down; Logind is one.
type Machine interface {
	// Watch connects, and lets a shutdown last as long as that.
	Watch(ctx context.Context, longest time.Duration) (Watch, error)
}

// Watch is a connection to a Machine, used by one goroutine.
type Watch interface {
	// Inhibit holds up a shutdown until the lock is closed.
	Inhibit(ctx context.Context) (io.Closer, error)
	// Shutdowns says at first whether a shutdown has begun, and then when one begins (true) and
	// when it is called off (false). It is closed when the connection breaks.
	Shutdowns() <-chan bool
	Close() error
}

// Config is what a Manager is made of; Event, Changed and Metrics may be nil.
type Config struct {
	Machine Machine
	Periods []Period                 // at least one
	Pods    func() []*v1.Pod         // those that have not ended
	Ended   func(uid types.UID) bool // nothing of the pod runs, and its volumes are gone
	Updates chan<- worker.Update     // to the sync loop
	Changed func()                   // the node's readiness has changed
	Event   journal.NodeEvent        // records events about the node
	Clock   clock.WithTicker
	Metrics prometheus.Registerer // nil: nothing is told
	File    string                // where it is kept when the last shutdown was; "": nowhere
}

// Manager is one part of the agent; see Run. Its other methods are safe for concurrent use.
type Manager struct {
	cfg    Config
	ending atomic.Bool
	called chan struct{} // off
	last   *lastShutdown
	failed logonce.Error
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Machine == nil || len(cfg.Periods) == 0 || cfg.Pods == nil || cfg.Ended == nil || cfg.Updates == nil || cfg.Clock == nil {
		return nil, errors.New("shutdown: the configuration is incomplete")
	}
	last, err := newLastShutdown(cfg.File, cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Manager{cfg: cfg, called: make(chan struct{}, 1), last: last}, nil
}

// Ending reports whether the machine is being shut down: the node is not ready then, and
// takes no pods. A nil Manager knows of no shutdown.
func (m *Manager) Ending() bool { return m != nil && m.ending.Load() }

// CalledOff says that a shutdown does not come: the node takes pods again. nil for a nil Manager.
func (m *Manager) CalledOff() <-chan struct{} {
	if m == nil {
		return nil
	}
	return m.called
}

// Run waits for shutdowns and ends pods then, until ctx ends. Without logind it tries again
// every second, and says so once.
func (m *Manager) Run(ctx context.Context) error {
	s := &stopping{manager: m}
	defer s.release()
	defer s.stop()
	for {
		err := m.watch(ctx, s)
		if ctx.Err() != nil {
			return nil
		}
		if m.failed.Note(err) {
			klog.ErrorS(err, "Cannot hold up a shutdown of the machine: its pods would be killed without their grace periods. Trying again each second")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.cfg.Clock.After(reconnect):
		}
	}
}

// watch follows one connection until it breaks.
func (m *Manager) watch(ctx context.Context, s *stopping) error {
	w, err := m.cfg.Machine.Watch(ctx, total(m.cfg.Periods))
	if err != nil {
		return err
	}
	defer w.Close()
	if !m.ending.Load() { // logind gives no lock during a shutdown, and the one from before holds
		if err := s.hold(ctx, w); err != nil {
			return err
		}
		m.failed.Note(nil)
		klog.InfoS("A shutdown of the machine waits for its pods", "longest", total(m.cfg.Periods))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.ended():
			s.finish()
			klog.InfoS("All pods have ended, or their time is up: the machine may go down")
		case begins, ok := <-w.Shutdowns():
			switch {
			case !ok:
				return errors.New("the connection to logind has ended")
			case begins:
				s.begin(ctx)
			case s.callOff():
				if err := s.hold(ctx, w); err != nil {
					return err
				}
			}
		}
	}
}

// stopping is a shutdown's ending of pods, if there is one, and the lock that holds it up. It
// outlives the connection that told of it. Not for concurrent use.
type stopping struct {
	manager *Manager
	lock    io.Closer          // nil: nothing is held up
	cancel  context.CancelFunc // nil: no shutdown is under way
	done    chan struct{}
	over    bool // and finish was called
}

// hold takes a lock in the place of the last one.
func (s *stopping) hold(ctx context.Context, w Watch) error {
	lock, err := w.Inhibit(ctx)
	if err != nil {
		return err
	}
	s.release()
	s.lock = lock
	return nil
}

// release lets the machine go down.
func (s *stopping) release() {
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// ended is closed when all pods have ended or their time is up; nil until then, and after finish.
func (s *stopping) ended() <-chan struct{} {
	if s.over {
		return nil
	}
	return s.done
}

func (s *stopping) finish() {
	s.over = true
	s.release()
}

func (s *stopping) begin(ctx context.Context) {
	if s.cancel != nil {
		return
	}
	m := s.manager
	m.set(true, "Shutdown manager detected shutdown event")
	ctx, s.cancel = context.WithCancel(ctx)
	done := make(chan struct{})
	s.done, s.over = done, false
	go func() {
		defer close(done)
		m.endAll(ctx)
	}()
}

// callOff is for a shutdown that does not come: the node takes pods again. It reports whether
// there was one.
func (s *stopping) callOff() bool {
	if !s.stop() {
		return false
	}
	s.manager.set(false, "Shutdown manager detected shutdown cancellation")
	select {
	case s.manager.called <- struct{}{}:
	default: // nobody has heard of the last one yet
	}
	return true
}

// stop ends no more pods, waits for what it is at, and reports whether there was anything to stop.
func (s *stopping) stop() bool {
	if s.cancel == nil {
		return false
	}
	s.cancel()
	<-s.done
	s.cancel, s.done = nil, nil
	return true
}

func (m *Manager) set(ending bool, message string) {
	m.ending.Store(ending)
	klog.InfoS(message)
	if m.cfg.Event != nil {
		m.cfg.Event(v1.EventTypeNormal, "NodeShutdown", message)
	}
	if m.cfg.Changed != nil {
		m.cfg.Changed()
	}
}

// endAll ends the pods, group by group.
func (m *Manager) endAll(ctx context.Context) {
	since := m.cfg.Clock.Now()
	m.last.set(times{Start: since})
	defer func() { m.last.set(times{Start: since, End: m.cfg.Clock.Now()}) }()
	var told sync.WaitGroup // the sync loop takes orders one at a time, whatever time a group has
	defer told.Wait()
	for _, g := range groups(m.cfg.Periods, m.cfg.Pods()) {
		klog.InfoS("Ending pods because the machine is shut down", "priority", g.Priority, "pods", len(g.pods), "period", g.Grace)
		for _, pod := range g.pods {
			told.Go(func() {
				select {
				case m.cfg.Updates <- killing(pod, g.grace(pod), since):
				case <-ctx.Done():
				}
			})
		}
		m.await(ctx, g)
		if ctx.Err() != nil {
			return
		}
	}
}

// await waits until the pods of a group have ended, for as long as the group has.
func (m *Manager) await(ctx context.Context, g group) {
	timer := m.cfg.Clock.NewTimer(g.Grace)
	defer timer.Stop()
	ticker := m.cfg.Clock.NewTicker(look)
	defer ticker.Stop()
	for left := len(g.pods); left > 0; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
			klog.InfoS("Pods have not ended in the time that a shutdown leaves them", "priority", g.Priority, "pods", left)
			return
		case <-ticker.C():
		}
		left = 0
		for _, pod := range g.pods {
			if !m.cfg.Ended(pod.UID) {
				left++
			}
		}
	}
}

// killing is the order to stop a pod and to say why.
func killing(pod *v1.Pod, grace int64, since time.Time) worker.Update {
	end := podstatus.End{Reason: Reason, Message: podMessage, Disruption: podMessage, Since: since}
	return worker.Update{Kind: worker.Kill, Pod: pod, Grace: &grace, Explain: func(s *v1.PodStatus) { end.Explain(s, pod) }}
}
