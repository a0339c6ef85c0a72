package loop

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
)

// The loop's channels, as the journal names what comes from them; changes of what is wanted are events of their own.
const (
	fromPLEG         = "pleg"
	fromProbes       = "probe"
	fromWakeups      = "wake-up"
	fromEvictions    = "eviction"
	fromTick         = "tick"
	fromHousekeeping = "housekeeping"
)

// turn is what the loop is at, for the journal: the event because of which it tells workers something.
type turn struct {
	cause uint64
	of    map[types.UID]uint64 // of single pods, where they have their own
	ticks journal.Handle
}

// begin forgets the turn before.
func (t *turn) begin() {
	t.cause = 0
	clear(t.of)
}

// because returns the event because of which a pod's worker is told something.
func (t *turn) because(uid types.UID) uint64 {
	if cause, has := t.of[uid]; has {
		return cause
	}
	return t.cause
}

// wake notes that the loop was woken because of one pod.
func (l *Loop) wake(channel string, uid types.UID, cause uint64) {
	l.turn.cause = l.cfg.Journal.Note(journal.Event{Kind: journal.Wake, Reason: channel, Pod: uid, Cause: cause})
}

// noteChange notes what of the desired state changes.
func (l *Loop) noteChange(c source.Change) {
	if len(c.Pods) == 0 {
		l.turn.cause = l.cfg.Journal.Note(journal.Event{Kind: journal.Change, Name: c.Source, Reason: c.Op.String(), Cause: c.Cause})
	}
	for _, pod := range c.Pods {
		l.cfg.Journal.Know(journal.Who{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name})
		l.turn.of[pod.UID] = l.cfg.Journal.Note(journal.Event{Kind: journal.Change, Pod: pod.UID, Name: c.Source, Reason: c.Op.String(), Cause: c.Because(pod.UID)})
	}
}

// noteObject notes that something that a pod waits for or refers to has changed.
func (l *Loop) noteObject(uid types.UID, what string) uint64 {
	return l.cfg.Journal.Note(journal.Event{Kind: journal.Object, Pod: uid, Name: what})
}

// noteVerdict notes whether a pod was admitted.
func (l *Loop) noteVerdict(pod *v1.Pod, kind journal.Kind, reason, message string) {
	seq := l.cfg.Journal.Note(journal.Event{Kind: kind, Pod: pod.UID, Reason: reason, Err: bounds.Cut(message, journal.MaxText), Cause: l.turn.because(pod.UID)})
	l.turn.of[pod.UID] = seq
}

// update tells a pod's worker something, and why.
func (l *Loop) update(u worker.Update) {
	if u.Cause == 0 {
		u.Cause = l.turn.because(u.UID())
	}
	l.cfg.Workers.Update(u)
}
