// Package loop is the sync loop, where every input of the agent meets. It reads them from
// channels, and tells pods' workers; nothing else does.
//
//	desired pods ───────────┐
//	pod events (pleg) ──────┤
//	probes' verdicts ───────┤
//	wake-ups: objects, …  ──┼──▶ loop ──▶ worker.Update
//	evictions ──────────────┤
//	sync tick ──────────────┤
//	housekeeping ───────────┘
//
// The loop never blocks on a pod: it only decides which workers to tell. Nothing
// else writes the store of desired pods.
package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstart"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/probe"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/shutdown"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/declared"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
)

// The kubelet's periods of the sync tick and of housekeeping.
const (
	syncPeriod         = time.Second
	housekeepingPeriod = 2 * time.Second
)

// Workers is what the loop needs of the pod workers.
type Workers interface {
	Update(worker.Update)
	Known(types.UID) (worker.Phase, bool)
	UIDs() []types.UID
	Due(now time.Time) []types.UID
	// Orphans releases what pods that are gone still hold. It may take long.
	Orphans(ctx context.Context, gone func(types.UID) bool) error
}

// Runtime is the last view of the runtime's pods; it never asks the runtime.
type Runtime interface {
	// Pods returns nil before the first look.
	Pods() []*actual.Pod
	// Listed is closed with the first look.
	Listed() <-chan struct{}
}

// Admission decides whether a pod may start here beside the others; a nil Rejection
// admits it.
type Admission interface {
	Admit(pod *v1.Pod, others []*v1.Pod) *pods.Rejection
}

// Statuses is where the status of a pod that is not admitted goes, and where it is said how one has ended.
type Statuses interface {
	Set(pod *v1.Pod, s v1.PodStatus) (changed bool)
	Get(types.UID) (v1.PodStatus, bool)
}

// Config is what a Loop is made of. Probes, Wakeups, Evictions, Cleared, CalledOff, Preemption, Journal,
// Mirrors, Refresh, Requested, Starts and Metrics may be nil.
type Config struct {
	Sources   []string // names of the sources that must have spoken before anything is cleaned up
	Changes   <-chan source.Change
	Events    <-chan pleg.Event
	Probes    <-chan probe.Changed // pods for which a probe's verdict has changed
	Wakeups   *Wakeups
	Evictions <-chan worker.Update
	// Cleared says that the node is no longer short of anything. Static pods that it has ended or rejected
	// for that are then judged again, since nobody makes them anew.
	Cleared <-chan struct{}
	// CalledOff says the same of a shutdown of the machine that does not come.
	CalledOff <-chan struct{}
	Store     *podstore.Store
	Workers   Workers
	Runtime   Runtime
	Clock     clock.WithTicker
	Admission Admission
	// Preemption makes room for critical pods; nil: they are turned away like others.
	Preemption Preemption
	Statuses   Statuses
	Journal    *journal.Journal
	// Release is the Kubernetes release that this node is of; "": pods that change are not compared with the features that
	// it declares.
	Release string
	// Mirrors is told of every change of a static pod or of a mirror pod, once it is
	// in the store; nil: there is no API server to show static pods to.
	Mirrors func(types.NamespacedName)
	// Refresh brings what is known of the node's object up to date, so that Admission goes
	// by it; nil: there is no API server. The loop calls it before it rejects pods because of
	// that object, never twice at once, and does not wait for it.
	Refresh func(context.Context) error
	// Requested is told of each pod of the API server that has changed; nil: nobody is.
	Requested func(old, now *v1.Pod)
	Starts    *podstart.Tracker     // is told of each pod that comes, changes and goes
	Metrics   prometheus.Registerer // nil: nothing is counted
	// Gate holds each turn that may tell a worker something; nil: none is held.
	Gate *gate.Gate
}

// Loop is the sync loop. Run it once.
type Loop struct {
	cfg     Config
	metrics metrics
	spoken  map[string]bool
	alive   atomic.Int64 // when the loop last went round, in Unix nanoseconds

	cleaned  chan error // result of the cleaning under way; nil when none is
	cleaning logonce.Error

	doubts doubts
	// returning are pods that came back while the worker of their first life still took leave of
	// them, and that the node has no room for as long as it does. They are judged once it is gone.
	returning []types.UID
	waiting   []waiter // critical pods, in the order in which they get room
	// evicted are static pods that were ended or rejected because the node was short of something.
	evicted map[types.UID]bool
	// shutOut are those that were ended or rejected because the machine is being shut down.
	shutOut map[types.UID]bool
	// stopping are static pods that the node has ended, and that nothing but their end keeps from coming back.
	stopping map[types.UID]bool

	turn turn
}

// New checks the configuration.
func New(cfg Config) (*Loop, error) {
	switch {
	case len(cfg.Sources) == 0:
		return nil, errors.New("loop: no Sources")
	case cfg.Changes == nil, cfg.Events == nil:
		return nil, errors.New("loop: no Changes or Events")
	case cfg.Store == nil, cfg.Workers == nil, cfg.Runtime == nil, cfg.Clock == nil:
		return nil, errors.New("loop: no Store, Workers, Runtime or Clock")
	case cfg.Admission == nil, cfg.Statuses == nil:
		return nil, errors.New("loop: no Admission or Statuses")
	}
	if cfg.Wakeups == nil {
		cfg.Wakeups = NewWakeups()
	}
	counted, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	l := &Loop{cfg: cfg, metrics: counted, spoken: map[string]bool{}, evicted: map[types.UID]bool{}, shutOut: map[types.UID]bool{}, stopping: map[types.UID]bool{}, turn: turn{of: map[types.UID]uint64{}}}
	l.alive.Store(cfg.Clock.Now().UnixNano())
	return l, nil
}

// stuck is how long one turn of the loop may take, the kubelet's syncloop check.
const stuck = 5 * time.Minute

// Healthy returns nil while the loop goes round.
func (l *Loop) Healthy(now time.Time) error {
	if age := now.Sub(time.Unix(0, l.alive.Load())); age > stuck && !l.cfg.Gate.Holds() {
		return fmt.Errorf("the sync loop was last seen %v ago", age.Round(time.Second))
	}
	return nil
}

// Run reads the channels until ctx ends. Changes wait until the runtime has been
// listed: a pod that already runs must not be judged as a new one.
func (l *Loop) Run(ctx context.Context) error {
	tick := l.cfg.Clock.NewTicker(syncPeriod)
	defer tick.Stop()
	housekeeping := l.cfg.Clock.NewTicker(housekeepingPeriod)
	defer housekeeping.Stop()
	defer func() {
		if l.cleaned != nil {
			<-l.cleaned
		}
		if l.doubts.asking != nil {
			<-l.doubts.asking
		}
	}()
	listed, changes := l.cfg.Runtime.Listed(), (<-chan source.Change)(nil)
	for {
		l.alive.Store(l.cfg.Clock.Now().UnixNano())
		l.ask(ctx)
		l.turn.begin()
		select {
		case <-ctx.Done():
			return nil
		case <-listed:
			listed, changes = nil, l.cfg.Changes
		case c := <-changes:
			if l.holdChange(ctx, c) != nil {
				return nil
			}
			l.change(c)
		case e := <-l.cfg.Events:
			// A container's removal says nothing that its death did not.
			if e.Type != pleg.ContainerRemoved {
				if l.holdPod(ctx, string(e.Type), e.PodUID) != nil {
					return nil
				}
				l.wake(fromPLEG, e.PodUID, e.Cause)
				l.sync(e.PodUID)
			}
		case v := <-l.cfg.Probes:
			if l.holdPod(ctx, "a probe's verdict has changed", v.Pod) != nil {
				return nil
			}
			l.wake(fromProbes, v.Pod, v.Cause)
			l.sync(v.Pod)
		case <-l.cfg.Wakeups.wake:
			for uid, cause := range l.cfg.Wakeups.take() {
				if l.holdPod(ctx, cause, uid) != nil {
					return nil
				}
				l.wake(fromWakeups, uid, l.noteObject(uid, cause))
				l.sync(uid)
			}
		case u := <-l.cfg.Evictions:
			if l.holdPod(ctx, "eviction", u.UID()) != nil {
				return nil
			}
			l.evict(u)
		case <-l.cfg.Cleared:
			l.judgeEnded(l.evicted)
		case <-l.cfg.CalledOff:
			l.judgeEnded(l.shutOut)
		case now := <-tick.C():
			l.retryDue(now)
			l.judgeWaiting()
		case <-housekeeping.C():
			l.housekeep(ctx)
		case err := <-l.cleaned:
			l.cleaned = nil
			l.noteCleaned(err)
		case err := <-l.doubts.asking:
			l.answered(err)
		}
	}
}

// change takes in one change of the desired state.
func (l *Loop) change(c source.Change) {
	l.noteChange(c)
	for _, pod := range c.Pods {
		klog.V(2).InfoS("SyncLoop "+c.Op.String(), "source", c.Source, "pod", klog.KObj(pod), "podUID", pod.UID)
	}
	if c.Op == source.Add {
		for _, pod := range c.Pods {
			l.cfg.Store.Set(pod)
		}
	}
	l.trackStarts(c)
	// Noted before new pods are judged: a pod that nobody wants must not stand in
	// their way.
	l.spoken[c.Source] = true
	if !slices.ContainsFunc(l.cfg.Sources, func(s string) bool { return !l.spoken[s] }) {
		l.cfg.Store.SetComplete()
	}
	switch c.Op {
	case source.Add:
		l.add(c.Pods)
	case source.Update:
		l.noteRequests(c.Pods)
		l.tellMissing(c.Pods)
		l.tell(c.Pods, worker.Change)
	case source.Delete:
		// Also for a pod that was never admitted: its end must be reported.
		for _, pod := range c.Pods {
			l.forgetWaiting(pod.UID)
		}
		l.tell(c.Pods, worker.Kill)
	case source.Reconcile:
		l.tell(c.Pods, worker.Sync)
	case source.Remove:
		for _, pod := range c.Pods {
			l.doubts.forget(pod.UID)
			l.returning = without(l.returning, pod.UID)
			l.forgetWaiting(pod.UID)
			delete(l.evicted, pod.UID)
			delete(l.shutOut, pod.UID)
			delete(l.stopping, pod.UID)
			l.cfg.Store.Remove(pod)
			if !pods.IsMirror(pod) {
				l.update(worker.Update{Kind: worker.Kill, Pod: pod, Removed: true})
			}
		}
	}
	if l.cfg.Mirrors != nil {
		for _, pod := range c.Pods {
			if pods.IsMirror(pod) || pods.IsStatic(pod) {
				l.cfg.Mirrors(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
			}
		}
	}
}

// trackStarts has the time measured that pods take to start.
func (l *Loop) trackStarts(c source.Change) {
	for _, pod := range c.Pods {
		switch c.Op {
		case source.Add:
			l.cfg.Starts.Follow(pod, l.runs(pod.UID))
		case source.Remove:
			l.cfg.Starts.Forget(pod.UID)
		default:
			l.cfg.Starts.Changed(pod)
		}
	}
}

// add admits new pods, which are already in the store. One that would be rejected because of the
// node's object is judged again, once that is up to date.
func (l *Loop) add(wanted []*v1.Pod) {
	l.admit(wanted, func(pod *v1.Pod, r pods.Rejection) {
		if r.OfNode && l.cfg.Refresh != nil {
			klog.V(2).InfoS("Pod does not suit what is known of the node, asking the API server", "pod", klog.KObj(pod), "podUID", pod.UID, "reason", r.Reason)
			l.doubts.pods = append(l.doubts.pods, pod.UID)
			return
		}
		l.reject(pod, r)
	})
}

// admit admits new pods, oldest first. A pod whose containers already run was admitted by an earlier
// agent and is not judged again; all that run count before any other is judged, or each restart of
// the agent would find room for some that waited.
func (l *Loop) admit(wanted []*v1.Pod, refuse func(*v1.Pod, pods.Rejection)) {
	wanted = slices.Clone(wanted)
	slices.SortStableFunc(wanted, func(a, b *v1.Pod) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	active := l.active()
	for _, pod := range wanted {
		if !pods.IsMirror(pod) && l.runs(pod.UID) {
			active = append(active, pod)
		}
	}
	for _, pod := range wanted {
		if pods.IsMirror(pod) {
			continue
		}
		runs, done := l.runs(pod.UID), pods.IsFinished(pod.Status.Phase)
		if pod.DeletionTimestamp == nil && !runs && !done {
			if r := l.cfg.Admission.Admit(pod, slices.Concat(active, l.promised(pod.UID))); r != nil {
				waits, told := l.makeRoom(pod, active, *r)
				if !waits {
					l.forgetWaiting(pod.UID)
					refuse(pod, told)
				}
				continue
			}
			l.noteVerdict(pod, journal.Admit, "", "")
			l.metrics.admit(pod)
		}
		if !runs && !done {
			active = append(active, pod)
		}
		l.update(worker.Update{Kind: worker.Create, Pod: pod})
		l.forgetWaiting(pod.UID) // its room is kept until it uses it
	}
}

// reject publishes that a pod was not admitted: it has failed. A worker that takes leave of its
// first life would take that status along, so such a pod waits for it.
func (l *Loop) reject(pod *v1.Pod, r pods.Rejection) {
	if _, leaving := l.cfg.Workers.Known(pod.UID); leaving {
		klog.InfoS("Pod came back before it was gone and is judged once it is", "pod", klog.KObj(pod), "podUID", pod.UID, "reason", r.Reason)
		l.returning = append(l.returning, pod.UID)
		return
	}
	klog.InfoS("Pod rejected", "pod", klog.KObj(pod), "podUID", pod.UID, "reason", r.Reason, "message", r.Message)
	l.noteVerdict(pod, journal.Reject, r.Reason, r.Message)
	l.cfg.Journal.Warn(pod, r.Reason, r.Message)
	l.metrics.reject(r)
	switch static := pods.IsStatic(pod); {
	case static && r.Pressure:
		l.evicted[pod.UID] = true
	case static && r.Shutdown:
		l.shutOut[pod.UID] = true
	}
	l.cfg.Statuses.Set(pod, podstatus.Rejected(pod, r, l.cfg.Clock.Now()))
}

// evict tells the worker of a pod that has to go. One that the node is too short of something for, or that ends with
// the machine, is noted if it is to come back.
func (l *Loop) evict(u worker.Update) {
	if u.Pod != nil {
		l.wake(fromEvictions, u.Pod.UID, u.Cause)
		u.Cause = l.turn.cause
	}
	if u.Pod != nil && pods.ComesBack(u.Pod) && u.Explain != nil {
		var s v1.PodStatus
		u.Explain(&s)
		switch s.Reason {
		case eviction.Reason:
			l.evicted[u.Pod.UID] = true
		case shutdown.Reason:
			l.shutOut[u.Pod.UID] = true
		}
	}
	l.update(u)
}

// judgeEnded has static pods judged again that had to go or could not come, for a reason that has passed.
func (l *Loop) judgeEnded(noted map[types.UID]bool) {
	for uid := range noted {
		delete(noted, uid)
		l.stopping[uid] = true
	}
	l.judgeStopped()
}

// judgeStopped has the static pods judged again that the node has ended, and that have stopped: nobody makes them
// anew. One that had succeeded by then is done.
func (l *Loop) judgeStopped() {
	for uid := range l.stopping {
		if phase, known := l.cfg.Workers.Known(uid); known && phase < worker.Terminated {
			continue
		}
		delete(l.stopping, uid)
		s, _ := l.cfg.Statuses.Get(uid)
		if pod, ok := l.cfg.Store.Get(uid); ok && s.Phase != v1.PodSucceeded {
			klog.InfoS("Static pod that had to give way is judged anew", "pod", klog.KObj(pod), "podUID", uid)
			l.judgeOnceGone(pod)
		}
	}
}

// judgeOnceGone takes a pod's worker back, and has the pod judged again once what is left of it is gone: its status
// may say that it has failed.
func (l *Loop) judgeOnceGone(pod *v1.Pod) {
	l.update(worker.Update{Kind: worker.Kill, Pod: pod, Removed: true})
	if !slices.Contains(l.returning, pod.UID) {
		l.returning = append(l.returning, pod.UID)
	}
}

// judgeReturning judges the pods that came back, and whose first life is over now.
func (l *Loop) judgeReturning() {
	var over []*v1.Pod
	for _, uid := range l.returning {
		if _, leaving := l.cfg.Workers.Known(uid); leaving {
			continue
		}
		l.returning = without(l.returning, uid)
		switch pod, ok := l.cfg.Store.Get(uid); {
		case !ok:
		case pod.DeletionTimestamp != nil: // its end must be reported
			l.update(worker.Update{Kind: worker.Kill, Pod: pod})
		default:
			over = append(over, pod)
		}
	}
	l.add(over)
}

func without(uids []types.UID, uid types.UID) []types.UID {
	return slices.DeleteFunc(slices.Clone(uids), func(other types.UID) bool { return other == uid })
}

// active returns the pods that use the node: admitted and not yet stopped. A pod
// that was over before this agent started no longer uses it, even if its worker has
// yet to find that out.
func (l *Loop) active() []*v1.Pod {
	var active []*v1.Pod
	for _, p := range l.cfg.Store.Pods() {
		if phase, ok := l.cfg.Workers.Known(p.UID); ok && phase < worker.Terminated && (!pods.IsFinished(p.Status.Phase) || l.runs(p.UID)) {
			active = append(active, p)
		}
	}
	return active
}

func (l *Loop) runs(uid types.UID) bool {
	for _, p := range l.cfg.Runtime.Pods() {
		if p.UID == uid {
			return p.Running()
		}
	}
	return false
}

// noteRequests passes on what changed pods ask for, before the store has them.
func (l *Loop) noteRequests(changed []*v1.Pod) {
	if l.cfg.Requested == nil {
		return
	}
	for _, pod := range changed {
		if old, ok := l.cfg.Store.Get(pod.UID); ok && !pods.IsStatic(pod) {
			l.cfg.Requested(old, pod)
		}
	}
}

func (l *Loop) tell(changed []*v1.Pod, kind worker.Kind) {
	for _, pod := range changed {
		l.cfg.Store.Set(pod)
		if !pods.IsMirror(pod) {
			l.update(worker.Update{Kind: kind, Pod: pod})
		}
	}
}

// tellMissing tells pods that have been changed to what the node has not declared that it can do. They go on all the same,
// as with the kubelet.
func (l *Loop) tellMissing(changed []*v1.Pod) {
	for _, pod := range changed {
		if old, ok := l.cfg.Store.Get(pod.UID); ok && l.cfg.Release != "" && !pods.IsMirror(pod) {
			if missing := declared.MissingForUpdate(old, pod, l.cfg.Release); missing != "" {
				l.cfg.Journal.Warn(pod, "FailedNodeDeclaredFeaturesCheck", missing)
			}
		}
	}
}

// sync tells a wanted pod's worker to look at it; pods that nobody wants are left
// to housekeeping.
func (l *Loop) sync(uid types.UID) {
	if pod, ok := l.cfg.Store.Get(uid); ok {
		l.update(worker.Update{Kind: worker.Sync, Pod: pod})
	}
}

// retryDue syncs the pods that are due again. All of them have the tick as their cause, which is one event.
func (l *Loop) retryDue(now time.Time) {
	due := l.cfg.Workers.Due(now)
	if len(due) > 0 {
		l.turn.cause = l.cfg.Journal.Again(&l.turn.ticks, journal.Event{Kind: journal.Wake, Reason: fromTick, Quiet: true})
	}
	for _, uid := range due {
		l.retry(uid)
	}
}

// retry is sync for a pod that is due again, wanted or on its way out.
func (l *Loop) retry(uid types.UID) {
	if pod, ok := l.cfg.Store.Get(uid); ok {
		l.update(worker.Update{Kind: worker.Sync, Pod: pod})
		return
	}
	l.update(worker.Update{Kind: worker.Sync, Running: &actual.Pod{UID: uid}})
}

// housekeep stops and removes pods that nobody wants, and releases what pods that
// are gone still hold. It waits until every source has spoken: until then nobody
// knows what a silent source wants.
func (l *Loop) housekeep(ctx context.Context) {
	l.judgeStopped()
	l.judgeReturning()
	if !l.cfg.Store.Complete() {
		return
	}
	view := l.cfg.Runtime.Pods()
	inUse := map[types.UID]bool{}
	for _, p := range l.cfg.Store.Pods() {
		inUse[p.UID] = true
	}
	for _, p := range view {
		if _, known := l.cfg.Workers.Known(p.UID); !known && !inUse[p.UID] {
			l.cfg.Journal.Know(journal.Who{UID: p.UID, Namespace: p.Namespace, Name: p.Name})
			l.wake(fromHousekeeping, p.UID, 0)
			klog.V(2).InfoS("Found a pod that nobody wants", "pod", klog.KRef(p.Namespace, p.Name), "podUID", p.UID)
			l.update(worker.Update{Kind: worker.Kill, Running: p, Removed: true})
		}
		inUse[p.UID] = true
	}
	for _, uid := range l.cfg.Workers.UIDs() {
		inUse[uid] = true
	}
	if view == nil || l.cleaned != nil {
		return // the runtime is not listed yet, or the last cleaning is not done
	}
	// Unmounting can hang on a dead server: never on the loop's own goroutine.
	cleaned := make(chan error, 1)
	l.cleaned = cleaned
	// A pod that was not in use when the round began may be wanted by now.
	gone := func(uid types.UID) bool { return !inUse[uid] && !l.cfg.Store.MayBeWanted(uid) }
	go func() { cleaned <- l.cfg.Workers.Orphans(ctx, gone) }()
}

func (l *Loop) noteCleaned(err error) {
	if l.cleaning.Note(err) {
		klog.ErrorS(err, "Could not clean up after pods that are gone, will try again")
	}
}
