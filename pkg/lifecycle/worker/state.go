package worker

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Phase is where a pod is in its life on this node; see the package's diagram.
type Phase int

// The phases of a pod's worker.
const (
	Waiting     Phase = iota // an earlier static pod of the same name is not gone yet
	Syncing                  // containers are started and kept as the spec wants
	Terminating              // containers are being stopped and never start again
	Terminated               // nothing runs; volumes are released, dead containers' logs stay readable
	Removing                 // wanted by nobody: the last traces are removed
)

// String returns the phase's name in lower case.
func (p Phase) String() string {
	if p < Waiting || p > Removing {
		return "unknown"
	}
	return [...]string{"waiting", "syncing", "terminating", "terminated", "removing"}[p]
}

// Kind is why a pod is updated.
type Kind int

// The kinds of Update; the kubelet calls them create, update, sync and kill.
const (
	Create Kind = iota // first seen
	Change             // its spec or metadata changed
	Sync               // something happened to its containers, or it is due
	Kill               // it must stop
)

// Update is what the loop tells a pod's worker.
type Update struct {
	Kind Kind
	// Pod is the pod as it is wanted now; nil for an orphan that only the runtime
	// knows, which is then in Running.
	Pod     *v1.Pod
	Running *actual.Pod
	// Removed, with Kill: no source wants the pod any more, so all its traces are
	// removed once it has stopped.
	Removed bool
	// Grace, with Kill, overrides the pod's grace period, in seconds. The shortest
	// of several counts.
	Grace *int64
	// Explain, with Kill, writes into the pod's status why it is killed: phase,
	// reason and message of an eviction, for example. It may be called repeatedly.
	Explain func(*v1.PodStatus)
	// Cause is the event of the journal because of which the worker is told; 0: none.
	Cause uint64
}

// UID returns the pod's UID.
func (u Update) UID() types.UID {
	if u.Pod != nil {
		return u.Pod.UID
	}
	return u.Running.UID
}

// state is everything that Workers knows of a pod. It is guarded by Workers.mu, and
// its methods only decide: they neither block nor act.
type state struct {
	uid     types.UID
	name    types.NamespacedName
	static  bool
	arrived uint64 // order among pods that wait for the same name

	pod         *v1.Pod     // as last wanted; nil for an orphan
	running     *actual.Pod // an orphan's
	phase       Phase
	settled     bool // in Terminated, and its step is done
	removed     bool
	left        time.Time // when it was removed
	grace       *int64
	explain     func(*v1.PodStatus)
	wantedAgain *v1.Pod // the same UID, wanted again while this one is on its way out

	said complaint // used by this pod's steps only, which run one after the other

	cause    uint64         // the first that has made it dirty
	resting  journal.Handle // of steps that do nothing; used by this pod's steps only
	dirty    bool           // something came in since the last step began
	resize   podstatus.Resize
	waiting  map[string]actual.Waiting
	lastStep time.Time // when the last step ended

	cancel context.CancelFunc // ends the step under way; nil between steps
	wake   chan struct{}
}

func newState(u Update, arrived uint64) *state {
	s := &state{uid: u.UID(), arrived: arrived, running: u.Running, wake: make(chan struct{}, 1)}
	if u.Pod != nil {
		s.name = types.NamespacedName{Namespace: u.Pod.Namespace, Name: u.Pod.Name}
		s.static = pods.IsStatic(u.Pod)
	} else {
		s.name = types.NamespacedName{Namespace: u.Running.Namespace, Name: u.Running.Name}
	}
	return s
}

// merge takes in an update. It reports whether the current step has become
// pointless, because the pod must now stop or must stop sooner.
func (s *state) merge(u Update) (interrupt bool) {
	if s.removed && u.Pod != nil && (u.Kind == Create || s.wantedAgain != nil && u.Explain == nil) {
		s.wantedAgain = u.Pod // only Create says that it was admitted
	}
	if s.removed && (u.Kind == Create || u.Kind == Change) {
		return false // nothing to this life
	}
	if u.Pod != nil && !s.removed && (u.Explain == nil || s.pod == nil) {
		s.pod = u.Pod // evictions carry a stale copy; keep ours
	}
	if u.Kind == Sync && s.settled {
		return false
	}
	if !s.dirty {
		s.cause = u.Cause
	}
	s.dirty = true

	kill := u.Kind == Kill
	var grace *int64
	if kill {
		grace = u.Grace
		if u.Explain != nil {
			s.explain = u.Explain
		}
		if u.Removed {
			s.removed, s.wantedAgain = true, nil
		}
	}
	if s.pod != nil && s.pod.DeletionTimestamp != nil {
		kill = true
		grace = shorter(grace, s.pod.DeletionGracePeriodSeconds)
	}
	if s.pod != nil && !s.static && pods.IsFinished(s.pod.Status.Phase) {
		kill = true // it was over before it came here, or somebody has said so at the API server
	}
	if !kill {
		return false
	}
	sooner := grace != nil && (s.grace == nil || *grace < *s.grace)
	s.grace = shorter(s.grace, grace)
	switch s.phase {
	case Waiting, Syncing:
		s.phase = Terminating
		return true
	case Terminating:
		return sooner
	}
	return false
}

// shorter returns the shorter of two grace periods; nil is "not given".
func shorter(a, b *int64) *int64 {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

// complaint is the last reported problem of a pod.
type complaint struct {
	text string
	at   time.Time
}

// isDue reports whether to make a complaint now, and if so notes it: the same
// complaint is made again only after its back-off.
func (c *complaint) isDue(text string, now time.Time) bool {
	if text == c.text && now.Sub(c.at) < errorBackOff {
		return false
	}
	*c = complaint{text, now}
	return true
}

// outcome is the result of a step.
type outcome struct {
	err        error
	done       bool          // Syncing: no container runs or will run again
	retryAfter time.Duration // Syncing: when a back-off ends; 0: nothing to wait for
	deadline   time.Time     // Syncing: when the pod must have ended; zero: never
	waiting    map[string]actual.Waiting
	resize     podstatus.Resize
	// inTheWay, after a first sync, is a pod of the same name that still runs
	// though nobody wants it: it was replaced while no agent ran.
	inTheWay *actual.Pod
}

// next returns when to look at a pod again: after a rest, sooner if a back-off ends
// before that, and never after the pod's deadline.
func (o outcome) next(now time.Time, rest time.Duration) time.Time {
	if o.err == nil && o.retryAfter > 0 && o.retryAfter < rest {
		rest = o.retryAfter
	}
	if at := now.Add(rest); o.deadline.IsZero() || at.Before(o.deadline) {
		return at
	}
	return o.deadline
}

// verdict is what follows from a step.
type verdict struct {
	phase Phase
	now   bool // continue at once
	retry bool // something failed: try again after the error back-off
	due   bool // look again at its usual time; nothing failed
	gone  bool
}

// decide returns what follows for a pod when a step in a phase ended with an
// outcome.
func decide(phase Phase, o outcome, removed bool) verdict {
	if o.err != nil {
		return verdict{phase: phase, retry: true}
	}
	switch phase {
	case Syncing:
		if o.inTheWay != nil {
			return verdict{phase: Waiting}
		}
		if o.done {
			return verdict{phase: Terminating, now: true}
		}
		return verdict{phase: Syncing, due: true}
	case Terminating:
		return verdict{phase: Terminated, now: true}
	case Terminated:
		if removed {
			return verdict{phase: Removing, now: true}
		}
		return verdict{phase: Terminated}
	case Removing:
		return verdict{phase: Removing, gone: true}
	}
	return verdict{phase: phase}
}
