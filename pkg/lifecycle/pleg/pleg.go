package pleg

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

const (
	// relistThreshold is how old the last relist may be, the kubelet's relistThreshold.
	relistThreshold = 3 * time.Minute
	// eventCapacity is the capacity of the channel to the loop, the kubelet's.
	// Events that do not fit wait in PLEG; nothing is dropped.
	eventCapacity = 1000
	// settle is how long a look waits after the event that asks for it, so that one
	// look sees all of what is going on in the pod.
	settle = 10 * time.Millisecond
	// looks is how many pods are inspected at once: enough to keep a responsive
	// runtime busy, few enough not to drown a slow one.
	looks = 8
	// slow is how long an inspection counts among them, so that hanging pods cannot
	// use up the slots.
	slow = 2 * time.Second
)

// Runtime is what PLEG observes.
type Runtime interface {
	// GetPods lists all pods that the runtime has.
	GetPods(ctx context.Context) ([]*actual.Pod, error)
	// GetPod lists one pod; it returns nil when the runtime does not have it.
	GetPod(ctx context.Context, uid types.UID) (*actual.Pod, error)
	// GetPodStatus inspects a pod that was listed.
	GetPodStatus(ctx context.Context, pod *actual.Pod) (*actual.PodStatus, error)
	// Follow calls tell with the UID of each pod that something happens to, until the
	// stream breaks or ctx ends; it returns kuberuntime.ErrNoEvents when there is no
	// stream.
	Follow(ctx context.Context, tell func(types.UID)) error
}

// Config is what a PLEG is made of.
type Config struct {
	Runtime Runtime
	Period  time.Duration // of the full relist; 0: 1 s
	// LookTimeout bounds the inspection of one pod; 0: 2 min.
	LookTimeout time.Duration
	Metrics     prometheus.Registerer // nil: not measured
	Journal     *journal.Journal      // nil: nothing is noted
}

// PLEG watches the runtime. Its methods are safe for concurrent use.
type PLEG struct {
	cfg        Config
	cache      *cache
	events     chan Event
	listedOnce chan struct{} // closed once there is a view
	took       prometheus.Histogram
	interval   prometheus.Histogram // between the starts of two relists
	lookTook   prometheus.Histogram

	mu      sync.Mutex
	wanted  map[types.UID]wish // pods to look at
	wake    chan struct{}
	seen    time.Time // end of the last full relist
	lastErr error     // why the last relist failed; nil when it did not

	// Used only by the goroutine of Run:
	listed map[types.UID]*actual.Pod // what the runtime has, by the last list or look
	view   map[types.UID]*actual.Pod // as of the last good inspection of each
	looked map[types.UID]time.Time   // start of the last inspection of each
	busy   map[types.UID]bool        // being inspected; true: inspect again afterwards
	failed map[types.UID]bool        // whose last inspection failed
	began  time.Time                 // start of the last full relist; zero: none yet
	out    []Event                   // waiting to be sent
	idle   journal.Handle            // of relists that find nothing new
}

// wish is that a pod be looked at.
type wish struct {
	now   bool   // at once
	cause uint64 // in the journal
}

// New checks the configuration.
func New(cfg Config) (*PLEG, error) {
	if cfg.Runtime == nil {
		return nil, errors.New("pleg: no Runtime")
	}
	if cfg.Period <= 0 {
		cfg.Period = time.Second
	}
	if cfg.LookTimeout <= 0 {
		cfg.LookTimeout = 2 * time.Minute
	}
	p := &PLEG{
		cfg: cfg, cache: newCache(), events: make(chan Event, eventCapacity), listedOnce: make(chan struct{}),
		wanted: map[types.UID]wish{}, wake: make(chan struct{}, 1), seen: time.Now(),
		listed: map[types.UID]*actual.Pod{}, view: map[types.UID]*actual.Pod{}, looked: map[types.UID]time.Time{}, busy: map[types.UID]bool{}, failed: map[types.UID]bool{},
	}
	set := metricset.New(cfg.Metrics)
	p.took = set.Histogram("kubelet_pleg_relist_duration_seconds", "How long it took to list the runtime's pods", nil)
	p.interval = set.Histogram("kubelet_pleg_relist_interval_seconds", "How long it took from one list of the runtime's pods to the next", nil)
	p.lookTook = set.Histogram("kubelet_pleg_pod_relist_duration_seconds", "How long it took to look at one pod at the runtime", nil)
	set.Add(newRunning(p))
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("pleg: %w", err)
	}
	return p, nil
}

// Events returns the channel that the sync loop reads.
func (p *PLEG) Events() <-chan Event { return p.events }

// Listed returns a channel that is closed once the runtime has been listed for the
// first time: from then on Pods has an answer.
func (p *PLEG) Listed() <-chan struct{} { return p.listedOnce }

// Relist asks for an immediate look at one pod. It does not wait for it.
func (p *PLEG) Relist(uid types.UID) { p.want(uid, true, 0) }

func (p *PLEG) want(uid types.UID, now bool, cause uint64) {
	p.mu.Lock()
	w := p.wanted[uid]
	w.now = w.now || now
	if w.cause == 0 {
		w.cause = cause
	}
	p.wanted[uid] = w
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Healthy returns nil while relists finish in time, and otherwise an error in the
// kubelet's words.
func (p *PLEG) Healthy(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := now.Sub(p.seen)
	if age <= relistThreshold {
		return nil
	}
	err := fmt.Errorf("pleg was last seen active %v ago; threshold is %v", age.Round(time.Second), relistThreshold)
	if p.lastErr != nil {
		err = fmt.Errorf("%w: last relist: %w", err, p.lastErr)
	}
	return err
}

// look is the result of inspecting one pod.
type look struct {
	uid    types.UID
	pod    *actual.Pod // nil: the runtime does not have it
	status *actual.PodStatus
	err    error
	asOf   time.Time
	noted  uint64 // in the journal
}

// list is the result of a full relist.
type list struct {
	pods []*actual.Pod
	err  error
	asOf time.Time
	span *journal.Span
}

// inspector has a pod looked at in the background, which was listed at that time or is to be.
type inspector func(uid types.UID, pod *actual.Pod, asOf time.Time, cause uint64)

// Run observes the runtime until ctx ends.
func (p *PLEG) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { p.follow(ctx) })

	tick := time.NewTicker(p.cfg.Period)
	defer tick.Stop()
	var settled <-chan time.Time // runs while events have asked for looks
	lists := make(chan list, 1)
	looked := make(chan look)
	slots := make(chan struct{}, looks)
	listing := false
	relist := func() {
		if listing {
			return
		}
		listing = true
		wg.Go(func() {
			span := p.cfg.Journal.BeginQuiet(&p.idle, journal.Event{Kind: journal.List})
			asOf := time.Now()
			pods, err := p.cfg.Runtime.GetPods(journal.In(ctx, span))
			lists <- list{pods, err, asOf, span}
		})
	}
	inspect := func(uid types.UID, pod *actual.Pod, asOf time.Time, cause uint64) {
		if _, ok := p.busy[uid]; ok {
			p.busy[uid] = true
			return
		}
		p.busy[uid] = false
		wg.Go(func() {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			release := sync.OnceFunc(func() { <-slots })
			late := time.AfterFunc(slow, release)
			l := p.look(ctx, uid, pod, asOf, cause)
			late.Stop()
			release()
			select {
			case looked <- l:
			case <-ctx.Done():
			}
		})
	}
	relist()
	for {
		var send chan<- Event
		var first Event
		if len(p.out) > 0 {
			send, first = p.events, p.out[0]
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			relist()
		case <-p.wake:
			if p.lookAtWanted(false, inspect) && settled == nil {
				settled = time.After(settle)
			}
		case <-settled:
			settled = nil
			p.lookAtWanted(true, inspect)
		case l := <-lists:
			listing = false
			p.compare(l, inspect)
		case l := <-looked:
			p.take(l, inspect)
		case send <- first:
			p.out = p.out[1:]
		}
	}
}

// lookAtWanted inspects the pods in wanted: all of them, or only those that cannot
// wait. It reports whether any is left for later.
func (p *PLEG) lookAtWanted(all bool, inspect inspector) (left bool) {
	p.mu.Lock()
	granted := map[types.UID]uint64{}
	for uid, w := range p.wanted {
		if w.now || all {
			granted[uid] = w.cause
			delete(p.wanted, uid)
		}
	}
	left = len(p.wanted) > 0
	p.mu.Unlock()
	for uid, cause := range granted {
		inspect(uid, nil, time.Time{}, cause)
	}
	return left
}

// look inspects one pod, after listing it unless a list just did.
func (p *PLEG) look(ctx context.Context, uid types.UID, pod *actual.Pod, asOf time.Time, cause uint64) look {
	m := p.cfg.Journal.Measure(journal.Event{Kind: journal.Look, Pod: uid, Cause: cause})
	l := p.inspect(journal.In(ctx, m.Span), uid, pod, asOf)
	l.noted = m.Seq()
	p.lookTook.Observe(m.End(l.err).Seconds())
	return l
}

func (p *PLEG) inspect(ctx context.Context, uid types.UID, pod *actual.Pod, asOf time.Time) look {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.LookTimeout, fmt.Errorf("no answer within %v", p.cfg.LookTimeout))
	defer cancel()
	l := look{uid: uid, pod: pod, asOf: asOf}
	if pod == nil {
		l.asOf = time.Now()
		if l.pod, l.err = p.cfg.Runtime.GetPod(ctx, uid); l.err != nil {
			return l
		}
	}
	if l.pod != nil {
		l.status, l.err = p.cfg.Runtime.GetPodStatus(ctx, l.pod)
	}
	return l
}

// compare takes in a full relist: pods that have not changed are known to be as
// before, pods that have changed are inspected before anyone is told.
func (p *PLEG) compare(l list, inspect inspector) {
	p.took.Observe(time.Since(l.asOf).Seconds())
	if !p.began.IsZero() {
		p.interval.Observe(l.asOf.Sub(p.began).Seconds())
	}
	p.began = l.asOf
	p.mu.Lock()
	if l.err != nil {
		if p.lastErr == nil {
			klog.ErrorS(l.err, "Could not list the runtime's pods, trying again each period")
		}
		p.lastErr = l.err
	} else {
		if p.lastErr != nil {
			klog.InfoS("The runtime's pods can be listed again")
		}
		p.lastErr, p.seen = nil, time.Now()
	}
	p.mu.Unlock()
	if l.err != nil {
		l.span.End(l.err)
		return
	}
	// For a pod that was looked at since the list was requested, that look is
	// newer.
	newer := func(uid types.UID) bool { return p.looked[uid].After(l.asOf) }
	listed := make(map[types.UID]*actual.Pod, len(l.pods))
	var news []*actual.Pod
	for _, pod := range l.pods {
		if newer(pod.UID) {
			continue
		}
		listed[pod.UID] = pod
		if !same(p.view[pod.UID], pod) || p.failed[pod.UID] {
			news = append(news, pod)
		}
	}
	var gone []types.UID
	for uid, pod := range p.listed {
		switch {
		case newer(uid):
			listed[uid] = pod
		case listed[uid] == nil && p.view[uid] != nil:
			gone = append(gone, uid)
		}
	}
	changed := len(news)+len(gone) > 0 || len(listed) != len(p.listed) || p.cache.view == nil
	p.listed = listed
	p.cache.write(func() {
		p.cache.asOf = l.asOf
		for _, pod := range news {
			p.cache.suspect[pod.UID] = l.asOf
		}
		for _, uid := range gone {
			p.cache.suspect[uid] = l.asOf
		}
		// From now on this list vouches for the absence of what it does not show.
		for uid, e := range p.cache.pods {
			if listed[uid] == nil && p.view[uid] == nil && e.asOf.Before(l.asOf) {
				if _, busy := p.busy[uid]; !busy {
					delete(p.cache.pods, uid)
					delete(p.cache.suspect, uid)
					delete(p.looked, uid)
					delete(p.failed, uid)
				}
			}
		}
		if p.cache.view == nil {
			close(p.listedOnce)
		}
		if changed {
			p.cache.view = viewOf(listed)
		}
	})
	for _, pod := range news {
		p.cfg.Journal.Know(journal.Who{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name})
		inspect(pod.UID, pod, l.asOf, l.span.Seq())
	}
	for _, uid := range gone {
		inspect(uid, nil, time.Time{}, l.span.Seq())
	}
	l.span.EndWith(nil, func(e *journal.Event) { e.Detail = difference{len(l.pods), len(news), len(gone)} })
}

// difference is what a relist found, for the journal.
type difference struct{ pods, news, gone int }

// String implements fmt.Stringer.
func (d difference) String() string {
	if d.news+d.gone == 0 {
		return fmt.Sprintf("pods: %d, all as before", d.pods)
	}
	return fmt.Sprintf("pods: %d, changed: %d, gone: %d", d.pods, d.news, d.gone)
}

// take takes in the inspection of one pod, and tells the loop what has changed.
func (p *PLEG) take(l look, inspect inspector) {
	again := p.busy[l.uid]
	delete(p.busy, l.uid)
	if l.asOf.Before(p.looked[l.uid]) {
		return // a newer look finished first
	}
	p.looked[l.uid] = l.asOf
	before := p.view[l.uid]
	if l.err != nil {
		if !p.failed[l.uid] {
			klog.ErrorS(l.err, "Could not inspect a pod, keeping what was last known of it", "podUID", l.uid)
		}
		p.failed[l.uid] = true
	} else {
		delete(p.failed, l.uid)
		p.tell(diff(before, l.pod), l.noted)
		if l.pod == nil {
			delete(p.view, l.uid)
			delete(p.listed, l.uid)
		} else {
			p.view[l.uid], p.listed[l.uid] = l.pod, l.pod
		}
	}
	p.cache.write(func() {
		e := entry{status: l.status, err: l.err, asOf: l.asOf}
		switch {
		case l.err != nil:
			e.status = p.cache.pods[l.uid].status
		case l.pod == nil:
			e.status = &actual.PodStatus{UID: l.uid, ObservedAt: l.asOf}
		}
		p.tell(corrected(p.cache.pods[l.uid].status, e.status), l.noted)
		p.cache.pods[l.uid] = e
		if since := p.cache.suspect[l.uid]; l.err != nil {
			p.cache.suspect[l.uid] = later(since, l.asOf)
			return
		} else if !l.asOf.Before(since) {
			delete(p.cache.suspect, l.uid)
		}
		// Before the first list, a look at one pod does not make a view of them
		// all.
		if p.cache.view != nil && (before != nil || l.pod != nil) && !same(before, l.pod) {
			p.cache.view = viewOf(p.listed)
		}
	})
	if again {
		inspect(l.uid, nil, time.Time{}, l.noted)
	}
}

// tell has events sent to the loop.
func (p *PLEG) tell(events []Event, cause uint64) {
	for _, e := range events {
		e.Cause = p.cfg.Journal.Note(journal.Event{Kind: journal.PodEvent, Pod: e.PodUID, Name: e.ContainerID, Reason: string(e.Type), Cause: cause})
		p.out = append(p.out, e)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func viewOf(pods map[types.UID]*actual.Pod) []*actual.Pod {
	view := make([]*actual.Pod, 0, len(pods))
	for _, pod := range pods {
		view = append(view, pod)
	}
	return view
}

// follow keeps the runtime's event stream open. While the stream is broken, only
// the relist finds changes.
func (p *PLEG) follow(ctx context.Context) {
	const least, most = 100 * time.Millisecond, 5 * time.Second
	fresh := wait.Backoff{Duration: least, Factor: 2, Cap: most, Steps: math.MaxInt32}
	backOff := fresh
	for {
		begun := time.Now()
		err := p.cfg.Runtime.Follow(ctx, func(uid types.UID) {
			p.want(uid, false, p.cfg.Journal.Note(journal.Event{Kind: journal.Engine, Pod: uid}))
		})
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, kuberuntime.ErrNoEvents):
			klog.InfoS("The runtime sends no events: changes are noticed by relisting alone", "period", p.cfg.Period)
			return
		case time.Since(begun) > most:
			backOff = fresh
		}
		after := backOff.Step()
		klog.V(2).InfoS("The runtime's event stream broke, following it anew", "err", err, "after", after)
		select {
		case <-ctx.Done():
			return
		case <-time.After(after):
		}
	}
}
