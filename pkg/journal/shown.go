package journal

import (
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// Shown is an event in words, as it is sent to whoever looks: one JSON object a line.
type Shown struct {
	Seq     uint64 `json:"seq"`
	Version uint64 `json:"version"`         // asks for what comes after it
	Cause   uint64 `json:"cause,omitempty"` // the event that made this one happen

	Time   time.Time  `json:"time"`
	Last   *time.Time `json:"last,omitempty"`   // of equal events that were merged
	Count  uint32     `json:"count,omitempty"`  // how many; not set for one
	TookNS int64      `json:"tookNs,omitempty"` // nanoseconds; UnderWay (-1): it is not over

	Kind      string `json:"kind"`
	UID       string `json:"uid,omitempty"` // of the pod; none: it is about the node
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Step      uint32 `json:"step,omitempty"`

	// Until is when what waits is looked at or tried again.
	Until *time.Time `json:"until,omitempty"`

	Name    string `json:"name,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Error   string `json:"error,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Warning bool   `json:"warning,omitempty"`
	Quiet   bool   `json:"quiet,omitempty"`
}

// maxDetail is how many bytes of a detail are shown: it may repeat parts of a spec.
const maxDetail = 4 << 10

// Show puts an event into words.
func (j *Journal) Show(e Event) Shown {
	who := j.Who(e.Pod)
	s := Shown{
		Seq: e.Seq, Version: e.Version, Cause: e.Cause, Time: j.Time(e.At), TookNS: int64(e.Took),
		Kind: e.Kind.String(), UID: string(e.Pod), Namespace: who.Namespace, Pod: who.Name, Step: e.Step,
		Name: e.Name, Reason: e.Reason, Error: e.Err, Warning: e.Warning, Quiet: e.Quiet,
	}
	if e.Count > 1 {
		last := j.Time(e.Last)
		s.Last, s.Count = &last, e.Count
	}
	if e.Detail != nil {
		s.Detail = bounds.Cut(e.Detail.String(), maxDetail)
	}
	if waits, ok := e.Detail.(interface{ Until() time.Time }); ok && !waits.Until().IsZero() {
		until := waits.Until()
		s.Until = &until
	}
	return s
}
