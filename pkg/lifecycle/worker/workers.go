package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/timequeue"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstart"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// errorBackOff is how long a pod rests after a failed step; jitter adds up to half
// of it. The kubelet's backOffPeriod.
const errorBackOff = 10 * time.Second

// Config is what Workers are made of. Everything but Holdings, Journal, Recall,
// Probes, Network, Starts, Allocations and Promised is required.
type Config struct {
	Cache    Cache
	Runtime  Runtime
	Holdings []Holding // what a pod has of the node, in the order in which it is set up
	Statuses Statuses
	Clock    clock.PassiveClock
	Journal  *journal.Journal
	// SyncFrequency is how often a pod is synced when nothing happens
	// (KubeletConfiguration.syncFrequency, 1 min); jitter adds up to half of it.
	SyncFrequency time.Duration
	// HostIPs returns the node's addresses, primary first.
	HostIPs func() []string
	// Recall returns the status of a pod at the API server: what was known before
	// this agent started, and what others have set. nil: there is no API server.
	Recall func(pod *v1.Pod) (v1.PodStatus, bool)
	Probes Probes // nil: a running container is started and ready
	// Network returns why the pod cannot be attached to the network now; the loop wakes the pod
	// once it can. nil: it always can.
	Network func(ctx context.Context, pod types.UID) error
	// Allocations of resources to pods; nil: they have what they ask for.
	Allocations Allocations
	// Promised returns the pods that do not use the node yet, but were promised room on it; nil: none was.
	Promised func() []*v1.Pod
	// Devices returns what a container's status says of its devices; nil: none has any.
	Devices func(pod types.UID, container string) []v1.ResourceStatus
	Starts  *podstart.Tracker // is told how init containers have run
	// Metrics is where the workers' own are registered; nil: nowhere.
	Metrics prometheus.Registerer
	// Traces makes each step of a pod a span; nil: none does.
	Traces trace.TracerProvider
	// Gate holds each step; nil: none is held.
	Gate *gate.Gate
}

// Workers is the set of pod workers. Safe for concurrent use.
type Workers struct {
	cfg     Config
	metrics metrics
	tracer  trace.Tracer
	due     timequeue.Queue[types.UID] // pods to sync again

	mu        sync.Mutex
	states    map[types.UID]*state
	names     map[types.NamespacedName]types.UID // the static pod or orphan that holds a name
	seq       uint64
	newStates []*state      // waiting for their goroutine
	startNew  chan struct{} // signals newStates
}

// New returns Workers that do nothing until Run; updates are kept until then.
func New(cfg Config) (*Workers, error) {
	switch {
	case cfg.Cache == nil:
		return nil, errors.New("worker: no Cache")
	case cfg.Runtime == nil:
		return nil, errors.New("worker: no Runtime")
	case cfg.Statuses == nil:
		return nil, errors.New("worker: no Statuses")
	case cfg.Clock == nil:
		return nil, errors.New("worker: no Clock")
	case cfg.HostIPs == nil:
		return nil, errors.New("worker: no HostIPs")
	case cfg.SyncFrequency <= 0:
		return nil, errors.New("worker: SyncFrequency must be positive")
	}
	if cfg.Probes == nil {
		cfg.Probes = noProbes{}
	}
	if cfg.Traces == nil {
		cfg.Traces = noop.NewTracerProvider()
	}
	w := &Workers{
		cfg:      cfg,
		tracer:   cfg.Traces.Tracer(tracingScope),
		states:   map[types.UID]*state{},
		names:    map[types.NamespacedName]types.UID{},
		startNew: make(chan struct{}, 1),
	}
	var err error
	w.metrics, err = newMetrics(cfg.Metrics, w)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Run gives every pod its goroutine until ctx ends, and returns when the last
// goroutine has ended. Pods go on running: ending the agent stops no container.
func (w *Workers) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.startNew:
		}
		w.mu.Lock()
		started := w.newStates
		w.newStates = nil
		w.mu.Unlock()
		for _, s := range started {
			wg.Go(func() { w.serve(ctx, s) })
		}
	}
}

// Update tells a pod's worker something and returns at once. Without a worker,
// Sync, Change and evictions (Kill with Explain) are ignored; only Create and a
// plain Kill start one.
func (w *Workers) Update(u Update) {
	if u.Pod == nil && u.Running == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.states[u.UID()]
	if !ok {
		if u.Kind == Sync || u.Kind == Change || u.Explain != nil {
			return
		}
		s = w.admit(u)
	}
	before := s.phase
	interrupt := s.merge(u)
	if s.phase != before {
		w.noteMove(s, before, s.phase, u.Cause)
	}
	if interrupt && s.cancel != nil {
		s.cancel()
	}
	if s.removed && s.left.IsZero() {
		s.left = w.cfg.Clock.Now()
	}
	if u.Kind == Sync && s.cancel != nil {
		// The current step can take long; what the probes say does not wait for it.
		w.cfg.Statuses.Refresh(s.uid, w.cfg.Probes.Verdict, w.cfg.Clock.Now())
	}
	s.signal()
}

// Known returns the phase of a pod's worker, Waiting for one that waits until its first life is over; ok
// is false when the pod has none.
func (w *Workers) Known(uid types.UID) (p Phase, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.states[uid]
	if !ok {
		return 0, false
	}
	if s.wantedAgain != nil {
		return Waiting, true
	}
	return s.phase, true
}

// Pods returns the wanted pods whose workers have not yet reached the phase, in no
// particular order.
func (w *Workers) Pods(before Phase) []*v1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*v1.Pod
	for _, s := range w.states {
		if s.pod != nil && (!s.removed || s.wantedAgain != nil) && s.phase < before {
			list = append(list, s.pod)
		}
	}
	return list
}

// Ended reports whether nothing of a pod runs and its volumes are released, as far as
// this node knows of it.
func (w *Workers) Ended(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.states[uid]
	return !ok || s.settled || s.phase > Terminated
}

// Leaving returns the pods that nobody wants any more and that are not gone yet, in no particular
// order, as if the API server had them: with the time at which their grace period ends. What was
// found at the runtime only is not among them.
func (w *Workers) Leaving() []*v1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	var leaving []*v1.Pod
	for _, s := range w.states {
		if s.pod == nil || !s.removed || s.wantedAgain != nil {
			continue
		}
		p := *s.pod // spec and maps are shared and only read
		if p.DeletionTimestamp == nil {
			grace := cmp.Or(s.grace, p.DeletionGracePeriodSeconds, p.Spec.TerminationGracePeriodSeconds)
			p.DeletionGracePeriodSeconds = grace
			p.DeletionTimestamp = &metav1.Time{Time: s.left.Add(time.Duration(min(ptr.Deref(grace, 0), math.MaxInt32)) * time.Second).Truncate(time.Second)}
		}
		leaving = append(leaving, &p)
	}
	return leaving
}

// ofAPI reports whether a pod is from the API server: such a pod does not block a
// static pod of its name.
func (w *Workers) ofAPI(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.states[uid]
	return ok && s.pod != nil && !s.static
}

// UIDs returns the pods that have a worker.
func (w *Workers) UIDs() []types.UID {
	w.mu.Lock()
	defer w.mu.Unlock()
	uids := make([]types.UID, 0, len(w.states))
	for uid := range w.states {
		uids = append(uids, uid)
	}
	return uids
}

// Due returns the pods that are due to be synced again, each once.
func (w *Workers) Due(now time.Time) []types.UID {
	uids, _ := w.due.Take(now)
	return uids
}

// admit makes the state of a new pod and asks for its goroutine. A static pod whose
// name another one holds waits.
func (w *Workers) admit(u Update) *state {
	w.seq++
	if u.Pod == nil {
		w.metrics.orphans.Inc()
	}
	s := newState(u, w.seq)
	s.phase = Syncing
	if holder, held := w.names[s.name]; !held && (s.static || u.Pod == nil) {
		w.names[s.name] = s.uid
	} else if held && s.static {
		s.phase = Waiting
		klog.V(2).InfoS("Static pod waits until the one before it is gone", "pod", klog.KObj(u.Pod), "podUID", s.uid, "waitsFor", holder)
		w.cfg.Journal.Note(journal.Event{Kind: journal.WaitName, Pod: s.uid, Name: string(holder), Cause: u.Cause})
	}
	w.states[s.uid] = s
	w.newStates = append(w.newStates, s)
	select {
	case w.startNew <- struct{}{}:
	default:
	}
	return s
}

// release forgets a pod that is gone and, because of that step, starts whatever has waited for that: the
// pod itself if it is wanted again, or the next static pod with its name.
func (w *Workers) release(s *state, cause uint64) {
	w.due.Forget(s.uid)
	w.cfg.Gate.Forget(s.uid)
	delete(w.states, s.uid)
	if w.names[s.name] == s.uid {
		delete(w.names, s.name)
	}
	if s.wantedAgain != nil {
		w.metrics.restarted.WithLabelValues(isStatic(pods.IsStatic(s.wantedAgain))).Inc()
		next := Update{Kind: Create, Pod: s.wantedAgain, Cause: cause}
		ns := w.admit(next)
		ns.merge(next)
		ns.signal()
	}
	var next *state
	for _, c := range w.states {
		if c.phase == Waiting && c.name == s.name && (next == nil || c.arrived < next.arrived) {
			next = c
		}
	}
	if _, held := w.names[s.name]; next != nil && !held {
		next.phase = Syncing
		next.dirty, next.cause = true, cause
		w.names[s.name] = next.uid
		next.signal()
	}
}

// yieldName gives a static pod's name to the pod that was found running under it:
// that pod is stopped and removed first.
func (w *Workers) yieldName(s *state, old *actual.Pod, cause uint64) {
	klog.InfoS("Static pod was replaced while no agent ran, waits until the old one is gone", "pod", s.name, "podUID", s.uid, "oldPodUID", old.UID)
	w.names[s.name] = old.UID
	u := Update{Kind: Kill, Running: old, Removed: true, Cause: cause}
	o, ok := w.states[old.UID]
	if !ok {
		o = w.admit(u)
	}
	o.merge(u)
	o.signal()
}

// signal makes the pod's goroutine look at its state.
func (s *state) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// step is one piece of work, copied from the state so that it runs without the
// lock.
type step struct {
	phase   Phase
	uid     types.UID
	pod     *v1.Pod
	running *actual.Pod
	grace   *int64
	explain func(*v1.PodStatus)
	waiting map[string]actual.Waiting
	resize  podstatus.Resize
	said    *complaint
	after   time.Time
	span    *journal.Span // in the journal
}

// ref names the pod in errors and logs.
func (st step) ref() klog.ObjectRef {
	if st.pod != nil {
		return klog.KObj(st.pod)
	}
	return klog.KRef(st.running.Namespace, st.running.Name)
}

func (w *Workers) serve(ctx context.Context, s *state) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for {
			if !w.pass(ctx, s) {
				return
			}
			stepCtx, st, ok := w.beginStep(ctx, s)
			if !ok {
				break
			}
			var o outcome
			if err := recovery.Call(func() error { o = w.doStep(stepCtx, st); return nil }); err != nil {
				o = outcome{err: fmt.Errorf("pod %s: %w", st.ref(), err), waiting: st.waiting, resize: st.resize} // fails this pod only
			}
			if w.finishStep(ctx, s, st, o) {
				return
			}
		}
	}
}

// pass holds the next step of a pod at its gate, and reports whether the agent goes on.
func (w *Workers) pass(ctx context.Context, s *state) bool {
	if w.cfg.Gate == nil {
		return true
	}
	w.mu.Lock()
	begins, phase := s.dirty && s.phase != Waiting, s.phase
	w.mu.Unlock()
	return !begins || w.cfg.Gate.Wait(ctx, gate.Step{Place: gate.Worker, Pod: s.uid, What: phase.String()}) == nil
}

// beginStep returns the next step of a pod, if there is one to take.
func (w *Workers) beginStep(ctx context.Context, s *state) (context.Context, step, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !s.dirty || s.phase == Waiting || ctx.Err() != nil {
		return nil, step{}, false
	}
	s.dirty = false
	ctx, s.cancel = context.WithCancel(ctx)
	span := w.cfg.Journal.BeginQuiet(&s.resting, journal.Event{
		Kind: journal.Step, Pod: s.uid, Reason: s.phase.String(), Cause: s.cause, Step: w.cfg.Journal.NextStep(s.uid),
	})
	return journal.In(ctx, span), step{
		span:  span,
		phase: s.phase, uid: s.uid, pod: s.pod, running: s.running, grace: s.grace,
		explain: s.explain, waiting: s.waiting, resize: s.resize, said: &s.said, after: s.lastStep,
	}, true
}

// finishStep takes in the outcome of a step, and reports whether the pod's
// goroutine ends.
func (w *Workers) finishStep(ctx context.Context, s *state, st step, o outcome) (gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.cancel()
	s.cancel = nil
	now := w.cfg.Clock.Now()
	s.lastStep = now
	var at ending
	defer func() { st.span.EndWith(o.err, func(e *journal.Event) { e.Detail = at }) }()
	if ctx.Err() != nil {
		return true // the agent stops
	}
	if st.phase == Syncing {
		s.waiting, s.resize = o.waiting, o.resize
	}
	if s.phase != st.phase {
		at.why = "the pod has moved on meanwhile"
		return false // an update has moved the pod on: dirty, so the next step follows
	}
	v := decide(st.phase, o, s.removed)
	w.cfg.Journal.Decide(journal.In(ctx, st.span), s.uid, Decide, &decided{decideInput{st.phase, o.err != nil, o.done, o.inTheWay != nil, s.removed}, v})
	if v.phase != s.phase {
		w.noteMove(s, s.phase, v.phase, st.span.Seq())
		klog.V(2).InfoS("Pod moved on", "pod", st.ref(), "podUID", s.uid, "from", s.phase.String(), "to", v.phase.String())
	}
	s.phase = v.phase
	s.settled = v.phase == Terminated && !v.now && !v.retry
	switch {
	case v.gone:
		w.release(s, st.span.Seq())
	case o.inTheWay != nil:
		w.yieldName(s, o.inTheWay, st.span.Seq())
	case v.now:
		at.why = "goes on at once"
		s.dirty, s.cause = true, st.span.Seq()
	case v.retry:
		if !s.dirty {
			klog.ErrorS(short(o.err), "Pod step failed, will try again", "pod", st.ref(), "podUID", s.uid, "phase", st.phase.String())
		}
		at = ending{o.next(now, jitter(errorBackOff)), "something failed"}
		w.due.Set(s.uid, at.next)
	case v.due:
		at = ending{o.next(now, jitter(w.cfg.SyncFrequency)), "unless something happens"}
		if o.retryAfter > 0 {
			at.why = "a back-off ends"
		}
		w.due.Set(s.uid, at.next)
	}
	return v.gone
}

// maxLogged is how many bytes of an error are logged: it recurs with every retry, and
// may repeat parts of a spec at any length.
const maxLogged = 4 << 10

func short(err error) error {
	if err == nil || len(err.Error()) <= maxLogged {
		return err
	}
	return errors.New(bounds.Cut(err.Error(), maxLogged))
}

// jitter returns d, randomly lengthened by up to half.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/2+1)
}

func (w *Workers) doStep(ctx context.Context, st step) (o outcome) {
	defer w.cfg.Gate.Done(st.uid)
	ctx, span := w.startSpan(ctx, st)
	defer func() { endSpan(span, o.err) }()
	defer w.metrics.step(st, w.cfg.Clock.Now(), w.cfg.Clock.Now)
	switch st.phase {
	case Syncing:
		if st.after.IsZero() {
			w.metrics.begun(st.pod, w.cfg.Clock.Now())
		}
		st, err := w.allocate(st)
		if err != nil {
			return outcome{err: err, waiting: st.waiting, resize: st.resize}
		}
		return w.sync(ctx, st)
	case Terminating:
		return outcome{err: w.terminate(ctx, st)}
	case Terminated:
		return outcome{err: w.terminated(ctx, st)}
	case Removing:
		return outcome{err: w.remove(ctx, st)}
	}
	return outcome{err: fmt.Errorf("pod %s: no step in phase %s", st.ref(), st.phase)}
}
