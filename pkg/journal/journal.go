// Package journal records what happens to each pod and why: the one record of the agent. Whoever decides or acts notes an
// Event, with its cause, in a ring of fixed size; `mini-kubelet trace`, `why` and the page are views of it.
//
//	note ──▶ ring ──▶ Since, Wait ──▶ trace, why, page
//	  └────▶ Sinks: what is worth an event of Kubernetes becomes a log line, an Event at the API server, one on disk
//
// What happens is told apart from what is said of it: an Entry is what the kubelet says to users, and is in the ring too.
// A step of which a histogram or a span of OTLP shows how long it took is measured once, by Measure (docs/decisions/journal-views.md).
package journal

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// Entry is one thing that happened to a pod.
type Entry struct {
	Time      time.Time
	Pod       *v1.Pod
	Container string // name, or "" for the pod as a whole
	Type      string // v1.EventTypeNormal or v1.EventTypeWarning
	Reason    string // the kubelet's, e.g. "Pulled", "BackOff"
	Message   string
	// Annotations of the event, for programs; nil for none.
	Annotations map[string]string
}

// Sink receives entries. Record must not block and may be called concurrently.
type Sink interface {
	Record(Entry)
}

// Journal remembers events, and hands entries to its sinks. The zero value and nil drop them.
// Safe for concurrent use.
type Journal struct {
	now   func() time.Time
	sinks []Sink
	ring  *ring

	decisions *decisions
}

// New returns a Journal that stamps entries with now and hands them to sinks in order.
func New(now func() time.Time, sinks ...Sink) *Journal {
	return &Journal{now: now, sinks: sinks, decisions: &decisions{idle: map[made]*Decided{}}, ring: &ring{
		start: time.Now(), slots: make([]Event, Capacity), names: names{known: map[types.UID]*name{}},
	}}
}

// WithSinks returns a Journal with the same memory that also hands entries to these sinks.
func (j *Journal) WithSinks(sinks ...Sink) *Journal {
	with := *j
	with.sinks = append(slices.Clip(slices.Clone(j.sinks)), sinks...)
	return &with
}

// MaxText is how long an event's note may be in the API, in bytes, and how much of an error is noted. What a
// text repeats of a spec, a command or an output may be of any length.
const MaxText = 1024

// Normal records that something went as it should for the pod as a whole. Like all that
// is recorded, a message too long for an event is cut.
func (j *Journal) Normal(pod *v1.Pod, reason, message string) {
	j.Container(pod, "").Normal(reason, message)
}

// Warn records that something went wrong for the pod as a whole.
func (j *Journal) Warn(pod *v1.Pod, reason, message string) {
	j.Container(pod, "").Warn(reason, message)
}

// Container returns what records for one container of the pod, or for the pod as a whole when the
// name is empty.
func (j *Journal) Container(pod *v1.Pod, name string) Recorder {
	return Recorder{journal: j, pod: pod, container: name}
}

// Annotated returns what records for the pod as a whole, with annotations.
func (j *Journal) Annotated(pod *v1.Pod, annotations map[string]string) Recorder {
	return Recorder{journal: j, pod: pod, annotations: annotations}
}

// Recorder records what happens to one pod, or to one of its containers.
type Recorder struct {
	journal     *Journal
	pod         *v1.Pod
	container   string
	annotations map[string]string
	step        *Span   // of which it is part; nil: none is known
	series      *Handle // of entries that say the same again and again; nil: it is none of them
}

// Again returns a Recorder of a series: in the ring, entries that say the same as the one before are one event.
func (r Recorder) Again(series *Handle) Recorder {
	r.series = series
	return r
}

// By returns a Recorder that records as part of a step.
func (r Recorder) By(step *Span) Recorder {
	r.step = step
	return r
}

// Normal records that something went as it should.
func (r Recorder) Normal(reason, message string) { r.record(v1.EventTypeNormal, reason, message) }

// Warn records that something went wrong.
func (r Recorder) Warn(reason, message string) { r.record(v1.EventTypeWarning, reason, message) }

func (r Recorder) record(eventType, reason, message string) {
	if r.journal == nil || r.pod == nil {
		return
	}
	message = bounds.Cut(message, MaxText)
	r.note(eventType, reason, message)
	if len(r.journal.sinks) == 0 {
		return
	}
	e := Entry{
		Time: r.journal.now(), Pod: r.pod, Container: r.container, Type: eventType, Reason: reason,
		Message: message, Annotations: r.annotations,
	}
	for _, s := range r.journal.sinks {
		s.Record(e)
	}
}

// note remembers an entry in the ring.
func (r Recorder) note(eventType, reason, message string) {
	e := Event{Kind: Said, Pod: r.pod.UID, Name: r.container, Reason: reason, Warning: eventType == v1.EventTypeWarning, Detail: Text(message)}
	if r.series != nil {
		e.Quiet = true
		r.journal.Again(r.series, e)
		return
	}
	r.journal.Note(r.step.Within(e))
}

// NodeEvent records something about the node itself: a function of the API server's sink,
// or nil where nobody listens.
type NodeEvent func(eventType, reason, message string)

// Warn records that something is wrong with the node. It may be called on nil.
func (e NodeEvent) Warn(reason, message string) {
	if e != nil {
		e(v1.EventTypeWarning, reason, message)
	}
}

// Normal records that something about the node went as it should. It may be called on nil.
func (e NodeEvent) Normal(reason, message string) {
	if e != nil {
		e(v1.EventTypeNormal, reason, message)
	}
}

// Both returns what records with both; each may be nil.
func Both(a, b NodeEvent) NodeEvent {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(eventType, reason, message string) {
		a(eventType, reason, message)
		b(eventType, reason, message)
	}
}

// LogSink writes each entry as one klog line, warnings at level 0 and normal
// events at V(2).
type LogSink struct{}

// Record implements Sink.
func (LogSink) Record(e Entry) {
	kv := []any{"pod", klog.KObj(e.Pod), "podUID", e.Pod.UID, "reason", e.Reason, "message", e.Message}
	if e.Container != "" {
		kv = append(kv, "containerName", e.Container)
	}
	if e.Type == v1.EventTypeWarning {
		klog.InfoS("Pod event", append(kv, "type", e.Type)...)
		return
	}
	klog.V(2).InfoS("Pod event", kv...)
}
