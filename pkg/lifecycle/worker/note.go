package worker

import (
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
)

// ending is what follows from a step, for the journal.
type ending struct {
	next time.Time // when the pod is looked at again; zero: when something happens
	why  string
}

// String implements fmt.Stringer.
func (e ending) String() string {
	if e.next.IsZero() {
		return e.why
	}
	return "next look at " + e.next.Format("15:04:05") + ": " + e.why
}

// Until returns when the pod is looked at again.
func (e ending) Until() time.Time { return e.next }

// noteworthy is how long it takes at most to look at what is set up already, also on a machine that is busy.
const noteworthy = 100 * time.Millisecond

// noteHolding notes a step of setting up or releasing what the pod holds of the node. That all is as it was is not worth
// an event.
func (w *Workers) noteHolding(st step, name, what string, took time.Duration, err error) {
	if err == nil && took < noteworthy && (st.phase != Syncing || !st.after.IsZero()) {
		return
	}
	e := journal.Event{Kind: journal.Volume, Name: name, Reason: what, Took: took}
	if err != nil {
		e.Err = bounds.Cut(err.Error(), maxLogged)
	}
	w.cfg.Journal.Note(st.span.Within(e))
}

// noteMove notes that a worker moves on.
func (w *Workers) noteMove(s *state, from, to Phase, cause uint64) {
	w.cfg.Journal.Note(journal.Event{Kind: journal.Phase, Pod: s.uid, Name: from.String(), Reason: to.String(), Cause: cause})
}

// noteStatus notes how the status of a pod has changed.
func (w *Workers) noteStatus(st step, old, now v1.PodStatus) {
	w.cfg.Journal.Note(st.span.Within(journal.Event{Kind: journal.Status, Pod: st.uid, Reason: string(now.Phase), Detail: journal.Text(podstatus.Changes(old, now))}))
}
