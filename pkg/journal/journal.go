// Package journal records what happened to each pod and why, as the kubelet's
// events: the one record behind logs and the API server's events. Whoever decides
// or acts calls Record; each Sink gets every entry.
package journal

import (
	"time"

	v1 "k8s.io/api/core/v1"
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
}

// Sink receives entries. Record must not block and may be called concurrently.
type Sink interface {
	Record(Entry)
}

// Journal hands entries to its sinks. The zero value and nil drop them.
// Safe for concurrent use.
type Journal struct {
	now   func() time.Time
	sinks []Sink
}

// New returns a Journal that stamps entries with now and hands them to sinks in order.
func New(now func() time.Time, sinks ...Sink) *Journal {
	return &Journal{now: now, sinks: sinks}
}

// maxMessage is how long an event's note may be in the API, in bytes. What a
// message repeats of a spec, a command or an output may be of any length.
const maxMessage = 1024

// Record notes that something happened to the pod or, when container is not
// empty, to that container of it. A message too long for an event is cut.
func (j *Journal) Record(pod *v1.Pod, container, eventType, reason, message string) {
	if j == nil || pod == nil || len(j.sinks) == 0 {
		return
	}
	e := Entry{Time: j.now(), Pod: pod, Container: container, Type: eventType, Reason: reason, Message: bounds.Cut(message, maxMessage)}
	for _, s := range j.sinks {
		s.Record(e)
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
