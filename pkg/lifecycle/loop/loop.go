// Package loop is the sync loop: the one place where all that a node agent hears
// of comes together, in five channels, and the one way out of it, the update of
// a pod's worker.
//
//	config ──────┐
//	pod events ──┤
//	sync tick ───┼──▶ loop ──▶ worker.Update
//	probes ──────┤
//	housekeeping ┘
//
// The loop never blocks on a pod: it only decides whom to tell. It alone writes
// the store of desired pods.
package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
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
}

// Runtime is the last view of what the runtime has; it never asks the runtime.
type Runtime interface {
	// Pods returns nil before the first look.
	Pods() []*actual.Pod
	// Listed is closed with the first look.
	Listed() <-chan struct{}
}

// Admission decides whether a pod may run here beside the others. A nil
// *Rejection admits it.
type Admission func(pod *v1.Pod, others []*v1.Pod) *Rejection

// Rejection says in the kubelet's words why a pod cannot run on this node.
type Rejection struct {
	Reason  string
	Message string
}

// Config is what a Loop is made of.
type Config struct {
	Sources []string // names of the sources that must have spoken before anything is cleaned up
	Changes <-chan source.Change
	Events  <-chan pleg.Event
	Probes  <-chan types.UID // pods of which a probe's result has changed; may be nil
	Store   *podstore.Store
	Workers Workers
	Runtime Runtime
	Clock   clock.WithTicker
	Admit   Admission
	// Reject makes it known that a pod was not admitted: status Failed, an event.
	Reject func(*v1.Pod, Rejection)
	// Mirrors is told of every change of a static pod or of a mirror pod, once it is
	// in the store; nil: there is no API server to show static pods to.
	Mirrors func(types.NamespacedName)
	// CleanDirs removes the directories and volumes of pods that are not in use.
	CleanDirs func(ctx context.Context, inUse map[types.UID]bool) error
}

// Loop is the sync loop. Run it once.
type Loop struct {
	cfg    Config
	spoken map[string]bool
	alive  atomic.Int64 // when the loop last went round, in Unix nanoseconds
	ready  atomic.Bool  // every source has spoken

	cleaned   chan error // result of the CleanDirs under way; nil when none is
	dirsError string     // its last error, so that one is logged once
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
	case cfg.Admit == nil, cfg.Reject == nil, cfg.CleanDirs == nil:
		return nil, errors.New("loop: no Admit, Reject or CleanDirs")
	}
	l := &Loop{cfg: cfg, spoken: map[string]bool{}}
	l.alive.Store(cfg.Clock.Now().UnixNano())
	return l, nil
}

// stuck is how long one turn of the loop may take, the kubelet's syncloop check.
const stuck = 5 * time.Minute

// Healthy returns nil while the loop goes round.
func (l *Loop) Healthy(now time.Time) error {
	if age := now.Sub(time.Unix(0, l.alive.Load())); age > stuck {
		return fmt.Errorf("the sync loop was last seen %v ago", age.Round(time.Second))
	}
	return nil
}

// Ready tells whether every source has spoken: what none of them wants is then
// wanted by nobody.
func (l *Loop) Ready() bool { return l.ready.Load() }

// MayBeWanted tells whether the pod is wanted or, as long as a source has not
// spoken, could be.
func (l *Loop) MayBeWanted(uid types.UID) bool {
	if !l.ready.Load() {
		return true
	}
	_, wanted := l.cfg.Store.Get(uid)
	return wanted
}

// Run reads the five channels until ctx ends. What is wanted waits until it is known
// what runs: a pod that runs already is not to be judged as a new one.
func (l *Loop) Run(ctx context.Context) error {
	tick := l.cfg.Clock.NewTicker(syncPeriod)
	defer tick.Stop()
	housekeeping := l.cfg.Clock.NewTicker(housekeepingPeriod)
	defer housekeeping.Stop()
	defer func() {
		if l.cleaned != nil {
			<-l.cleaned
		}
	}()
	listed, changes := l.cfg.Runtime.Listed(), (<-chan source.Change)(nil)
	for {
		l.alive.Store(l.cfg.Clock.Now().UnixNano())
		select {
		case <-ctx.Done():
			return nil
		case <-listed:
			listed, changes = nil, l.cfg.Changes
		case c := <-changes:
			l.change(c)
		case e := <-l.cfg.Events:
			// A container's removal tells nothing that its death has not.
			if e.Type != pleg.ContainerRemoved {
				l.sync(e.PodUID)
			}
		case uid := <-l.cfg.Probes:
			l.sync(uid)
		case now := <-tick.C():
			for _, uid := range l.cfg.Workers.Due(now) {
				l.retry(uid)
			}
		case <-housekeeping.C():
			l.housekeep(ctx)
		case err := <-l.cleaned:
			l.cleaned = nil
			l.noteCleaned(err)
		}
	}
}

// change takes one step of the desired state in.
func (l *Loop) change(c source.Change) {
	for _, pod := range c.Pods {
		klog.V(2).InfoS("SyncLoop "+c.Op.String(), "source", c.Source, "pod", klog.KObj(pod), "podUID", pod.UID)
	}
	if c.Op == source.Add {
		for _, pod := range c.Pods {
			l.cfg.Store.Set(pod)
		}
	}
	// Said before new pods are judged: what nobody wants stands in no one's way.
	l.spoken[c.Source] = true
	l.ready.Store(!slices.ContainsFunc(l.cfg.Sources, func(s string) bool { return !l.spoken[s] }))
	switch c.Op {
	case source.Add:
		l.add(c.Pods)
	case source.Update:
		l.tell(c.Pods, worker.Change)
	case source.Delete:
		// Also for a pod that was never admitted: its end must be reported.
		l.tell(c.Pods, worker.Kill)
	case source.Reconcile:
		l.tell(c.Pods, worker.Sync)
	case source.Remove:
		for _, pod := range c.Pods {
			l.cfg.Store.Remove(pod)
			if !pods.IsMirror(pod) {
				l.cfg.Workers.Update(worker.Update{Kind: worker.Kill, Pod: pod, Removed: true})
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

// add admits new pods, which are in the store, oldest first. A pod whose containers run already was
// admitted by an agent before this one and is not judged again.
func (l *Loop) add(wanted []*v1.Pod) {
	wanted = slices.Clone(wanted)
	slices.SortStableFunc(wanted, func(a, b *v1.Pod) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	active := l.active()
	for _, pod := range wanted {
		if pods.IsMirror(pod) {
			continue
		}
		runs, done := l.runs(pod.UID), pods.IsFinished(pod.Status.Phase)
		if pod.DeletionTimestamp == nil && !runs && !done {
			if r := l.cfg.Admit(pod, active); r != nil {
				klog.InfoS("Pod rejected", "pod", klog.KObj(pod), "podUID", pod.UID, "reason", r.Reason, "message", r.Message)
				l.cfg.Reject(pod, *r)
				continue
			}
		}
		if runs || !done {
			active = append(active, pod)
		}
		l.cfg.Workers.Update(worker.Update{Kind: worker.Create, Pod: pod})
	}
}

// active returns the pods that use the node: admitted and not yet stopped. One that
// was over before this agent started does so no more, though its worker has yet to
// find that out.
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

func (l *Loop) tell(changed []*v1.Pod, kind worker.Kind) {
	for _, pod := range changed {
		l.cfg.Store.Set(pod)
		if !pods.IsMirror(pod) {
			l.cfg.Workers.Update(worker.Update{Kind: kind, Pod: pod})
		}
	}
}

// sync has a wanted pod looked at; what nobody wants is housekeeping's.
func (l *Loop) sync(uid types.UID) {
	if pod, ok := l.cfg.Store.Get(uid); ok {
		l.cfg.Workers.Update(worker.Update{Kind: worker.Sync, Pod: pod})
	}
}

// retry is sync for a pod whose time has come, wanted or on its way out.
func (l *Loop) retry(uid types.UID) {
	if pod, ok := l.cfg.Store.Get(uid); ok {
		l.cfg.Workers.Update(worker.Update{Kind: worker.Sync, Pod: pod})
		return
	}
	l.cfg.Workers.Update(worker.Update{Kind: worker.Sync, Running: &actual.Pod{UID: uid}})
}

// housekeep stops and removes what runs though nobody wants it, and the
// directories of pods that are gone. It waits until every source has spoken:
// what a silent source wants is not known.
func (l *Loop) housekeep(ctx context.Context) {
	if !l.ready.Load() {
		return
	}
	view := l.cfg.Runtime.Pods()
	inUse := map[types.UID]bool{}
	for _, p := range l.cfg.Store.Pods() {
		inUse[p.UID] = true
	}
	for _, p := range view {
		if _, known := l.cfg.Workers.Known(p.UID); !known && !inUse[p.UID] {
			klog.V(2).InfoS("Found a pod that nobody wants", "pod", klog.KRef(p.Namespace, p.Name), "podUID", p.UID)
			l.cfg.Workers.Update(worker.Update{Kind: worker.Kill, Running: p, Removed: true})
		}
		inUse[p.UID] = true
	}
	for _, uid := range l.cfg.Workers.UIDs() {
		inUse[uid] = true
	}
	if view == nil || l.cleaned != nil {
		return // what runs is not known yet, or the last cleaning is not done
	}
	// Unmounting can hang on a dead server: never on the loop's own goroutine.
	cleaned := make(chan error, 1)
	l.cleaned = cleaned
	go func() { cleaned <- l.cfg.CleanDirs(ctx, inUse) }()
}

func (l *Loop) noteCleaned(err error) {
	switch {
	case err == nil:
		l.dirsError = ""
	case err.Error() != l.dirsError:
		l.dirsError = err.Error()
		klog.ErrorS(err, "Could not clean up the directories of pods that are gone")
	}
}
