// Package recent remembers the last events of a node, for who asks it directly: on a standalone
// node there is nobody else to ask, and in a cluster not while its API server is away. It is a
// sink of the journal. Equal events raise a count, as at the API server; beyond its bounds in
// number and size the oldest go. On a standalone node they are kept in a file, for the next agent:
//
//	Record ──▶ memory ──▶ Since, Wait ──▶ GET /mini-kubelet/events
//	             │ ▲
//	         Run ▼ │ New
//	             file
//
// Whoever records never waits for the disk: Run writes what memory has and the file has not. A disk that is full,
// read-only or broken costs what should be kept, and nothing else.
package recent

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Bounds of what is remembered. The size is that of the texts; what holds them is as much again.
const (
	MaxEvents = 1000
	MaxBytes  = 1 << 20
)

// Config is what a Sink is made of.
type Config struct {
	Node string           // its name
	Now  func() time.Time // for events about anything but pods
	// MaxEvents and MaxBytes bound what is remembered; 0 is the package's own bound.
	MaxEvents, MaxBytes int
	// File is where Run keeps the events, and where those from before come from; "": nowhere.
	File string
}

// Sink is a journal.Sink that remembers. Safe for concurrent use.
type Sink struct {
	cfg  Config
	disk disk // nil: nothing is kept
	torn bool // it had lines that are none; of New, and then of Run

	mu      sync.Mutex
	version int64 // of the last change
	bytes   int
	order   *list.List // of *remembered, the one that was seen longest ago first
	byKey   map[key]*list.Element
	changed chan struct{} // closed and replaced with each change
	dropped int           // events that were forgotten before they were on disk
}

// key is what equal events have in common.
type key struct {
	object                v1.ObjectReference
	kind, reason, message string
}

type remembered struct {
	key         key
	name        string
	first, last time.Time
	count       int32
	version     int64
	kept        onDisk
}

// New returns a Sink that remembers what the file has, and nothing else yet. What of the file cannot be read is logged.
func New(cfg Config) *Sink {
	if cfg.MaxEvents == 0 {
		cfg.MaxEvents = MaxEvents
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = MaxBytes
	}
	s := &Sink{cfg: cfg, order: list.New(), byKey: map[key]*list.Element{}, changed: make(chan struct{})}
	if cfg.File != "" {
		s.disk = file{cfg.File}
		s.load()
	}
	return s
}

// Record implements journal.Sink.
func (s *Sink) Record(e journal.Entry) {
	s.record(e.Time, key{*journal.Reference(e.Pod, e.Container), e.Type, e.Reason, e.Message})
}

// Claim records an event about a persistent volume claim.
func (s *Sink) Claim(c *v1.PersistentVolumeClaim, eventType, reason, message string) {
	s.record(s.cfg.Now(), key{*journal.ClaimReference(c), eventType, reason, message})
}

// Volume records an event about a persistent volume.
func (s *Sink) Volume(pv *v1.PersistentVolume, eventType, reason, message string) {
	s.record(s.cfg.Now(), key{*journal.VolumeReference(pv), eventType, reason, message})
}

// Node records an event about the node. It is a journal.NodeEvent.
func (s *Sink) Node(eventType, reason, message string) {
	s.record(s.cfg.Now(), key{v1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: s.cfg.Node}, eventType, reason, message})
}

func (s *Sink) record(at time.Time, k key) {
	k.object.ResourceVersion = "" // which changes between equal events
	k.message = bounds.Cut(k.message, journal.MaxText)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	at = at.UTC()
	if known := s.byKey[k]; known != nil {
		e := known.Value.(*remembered)
		e.count++
		e.last, e.version = at, s.version
		s.order.MoveToBack(known)
	} else {
		// The name is one that an Event of the API server would have.
		s.add(&remembered{key: k, name: fmt.Sprintf("%s.%x", k.object.Name, at.UnixNano()+s.version), first: at, last: at, count: 1, version: s.version})
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// add remembers an event as the newest.
func (s *Sink) add(e *remembered) {
	s.byKey[e.key] = s.order.PushBack(e)
	s.bytes += e.size()
	for s.order.Len() > s.cfg.MaxEvents || s.bytes > s.cfg.MaxBytes && s.order.Len() > 1 {
		s.forget(s.order.Front())
	}
}

func (s *Sink) forget(oldest *list.Element) {
	e := s.order.Remove(oldest).(*remembered)
	if e.kept.count == 0 && s.disk != nil {
		s.dropped++
	}
	delete(s.byKey, e.key)
	s.bytes -= e.size()
}

func (e *remembered) size() int {
	o := e.key.object
	return len(e.name) + len(o.Namespace) + len(o.Name) + len(o.UID) + len(o.FieldPath) + len(e.key.reason) + len(e.key.message)
}

// Since returns the events that are newer than a version, the oldest first, and the version of the
// newest there is. Since(0) is all of them.
func (s *Sink) Since(version int64) (events []v1.Event, newest int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := s.order.Back(); at != nil; at = at.Prev() {
		e := at.Value.(*remembered)
		if e.version <= version {
			break
		}
		events = append(events, s.event(e))
	}
	slices.Reverse(events)
	return events, s.version
}

// Wait returns when there is an event newer than the version, or with ctx's error.
func (s *Sink) Wait(ctx context.Context, version int64) error {
	for {
		s.mu.Lock()
		newer, changed := s.version > version, s.changed
		s.mu.Unlock()
		if newer {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Sink) event(e *remembered) v1.Event {
	namespace := e.key.object.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // as that of events about nodes is
	}
	return v1.Event{
		TypeMeta:       metav1.TypeMeta{Kind: "Event", APIVersion: "v1"},
		ObjectMeta:     metav1.ObjectMeta{Name: e.name, Namespace: namespace, CreationTimestamp: metav1.NewTime(e.first), ResourceVersion: fmt.Sprint(e.version)},
		InvolvedObject: e.key.object, Type: e.key.kind, Reason: e.key.reason, Message: e.key.message,
		Source:         v1.EventSource{Component: "kubelet", Host: s.cfg.Node},
		FirstTimestamp: metav1.NewTime(e.first), LastTimestamp: metav1.NewTime(e.last), Count: e.count,
		ReportingController: "kubelet", ReportingInstance: s.cfg.Node,
	}
}
