package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// Capacity is how many events a journal remembers; they are 144 bytes each.
const Capacity = 8192

// ring holds the last events. An event's place follows from its number, so that it can be found and changed as
// long as it is there.
type ring struct {
	start time.Time

	mu      sync.Mutex
	slots   []Event
	seq     uint64 // of the newest event
	version uint64 // of the newest change
	waiting bool   // somebody waits for changed
	changed chan struct{}
	steps   uint32 // of workers, counted over all pods
	names   names
}

// Handle finds the last of a series of events, for Again. The zero value has none yet. It is used by one
// goroutine at a time.
type Handle struct{ seq uint64 }

// Series are quiet events of several kinds, each of which is one event of a series of its own: by name and by how it has failed. The
// zero value is ready. Safe for concurrent use.
type Series struct {
	mu  sync.Mutex
	all map[series]*Handle
}

type series struct{ name, err string }

// maxSeries bounds what errors that are always different can make of it.
const maxSeries = 256

// Note notes an event of the series that it is of.
func (s *Series) Note(j *Journal, e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := series{e.Name, e.Err}
	if s.all == nil || len(s.all) > maxSeries {
		s.all = map[series]*Handle{}
	}
	if s.all[key] == nil {
		s.all[key] = &Handle{}
	}
	j.Again(s.all[key], e)
}

// now is monotonic: the clock of the machine may jump.
func (r *ring) now() int64 { return int64(time.Since(r.start)) }

// Note remembers an event and returns its number; 0 without a journal. One that Took some time began that long ago.
func (j *Journal) Note(e Event) uint64 {
	if j == nil || j.ring == nil {
		return 0
	}
	r := j.ring
	e.At = r.now() - max(0, int64(e.Took))
	r.mu.Lock()
	seq := r.note(&e)
	r.mu.Unlock()
	return seq
}

// Again notes an event of a series, such as the runs of one probe. As long as they are equal, also in why they failed, and Quiet they
// are one event with a count, in the place of the first, so that a night of them pushes nothing out. Cause, Took and Detail
// are then those of the last.
func (j *Journal) Again(h *Handle, e Event) uint64 {
	if j == nil || j.ring == nil {
		return 0
	}
	return j.ring.again(h, &e, j.ring.now())
}

// again is Again at a time.
func (r *ring) again(h *Handle, e *Event, now int64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first := r.begun(h); first != nil {
		e.Seq, e.At, e.Last, e.Count = first.Seq, first.At, now, 1
		*first = *e
		r.touch(first)
		return e.Seq
	}
	if old := r.find(h.seq); old != nil && e.Quiet && old.Quiet && old.Kind == e.Kind && old.Pod == e.Pod && old.Name == e.Name && old.Reason == e.Reason && old.Err == e.Err &&
		(e.Kind != Said || old.Detail == e.Detail) {
		old.Cause, old.Took, old.Step, old.Detail, old.Last = e.Cause, e.Took, e.Step, e.Detail, now
		old.Count++
		r.touch(old)
		return old.Seq
	}
	e.At = now - max(0, int64(e.Took))
	h.seq = r.note(e)
	return h.seq
}

func (r *ring) note(e *Event) uint64 {
	r.seq++
	slot := &r.slots[r.seq%uint64(len(r.slots))]
	*slot = *e
	slot.Seq, slot.Last, slot.Count = r.seq, e.At, 1
	r.touch(slot)
	return r.seq
}

func (r *ring) touch(e *Event) {
	r.version++
	e.Version = r.version
	if r.waiting {
		r.waiting = false
		close(r.changed)
	}
}

// find returns nil for an event that is forgotten.
func (r *ring) find(seq uint64) *Event {
	if seq == 0 {
		return nil
	}
	if e := &r.slots[seq%uint64(len(r.slots))]; e.Seq == seq {
		return e
	}
	return nil
}

// begun returns the first event of a series as long as it is not over; nil else.
func (r *ring) begun(h *Handle) *Event {
	if h == nil {
		return nil
	}
	if e := r.find(h.seq); e != nil && e.Count == 0 {
		return e
	}
	return nil
}

// Span is a step that takes time. It is one event, which is UnderWay until End. A nil Span is of no journal.
type Span struct {
	j     *Journal
	quiet *Handle // of its series, if it is only worth an event of its own once it has consequences
	root  bool    // it goes on as long as the agent does, and is an event of a series whenever it has consequences

	mu sync.Mutex
	e  Event
}

// Begin notes the beginning of a step.
func (j *Journal) Begin(e Event) *Span {
	if j == nil || j.ring == nil {
		return nil
	}
	return j.begin(e, time.Now())
}

func (j *Journal) begin(e Event, now time.Time) *Span {
	r := j.ring
	e.Took, e.At = UnderWay, int64(now.Sub(r.start))
	r.mu.Lock()
	e.Seq = r.note(&e)
	r.mu.Unlock()
	return &Span{j: j, e: e}
}

// BeginQuiet begins a step that may turn out to do nothing. It becomes an event of its own with the first that has it as its
// cause; else it is merged with the last of its series, if that has ended in the same way.
func (j *Journal) BeginQuiet(h *Handle, e Event) *Span {
	if j == nil || j.ring == nil {
		return nil
	}
	return j.beginQuiet(h, e, time.Now())
}

func (j *Journal) beginQuiet(h *Handle, e Event, now time.Time) *Span {
	e.Took, e.At = UnderWay, int64(now.Sub(j.ring.start))
	return &Span{j: j, quiet: h, e: e}
}

// Root returns the step that all is part of that a part of the agent does by itself, driven by its timers. It needs no End.
func (j *Journal) Root(part string) *Span {
	if j == nil || j.ring == nil {
		return nil
	}
	return &Span{j: j, quiet: &Handle{}, root: true, e: Event{Kind: Timer, Name: part, Quiet: true}}
}

// Seq returns the step's number, as the cause of others.
func (s *Span) Seq() uint64 {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq()
}

// Series returns the step's number, or while it is quiet that of the series that it is going to be merged with.
func (s *Span) Series() uint64 {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet == nil || s.e.Seq != 0 || s.root {
		return s.seq()
	}
	r := s.j.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.find(s.quiet.seq) == nil {
		e := s.e
		e.Quiet = true
		s.quiet.seq = r.note(&e)
		r.find(s.quiet.seq).Count = 0 // none is over
	}
	return s.quiet.seq
}

func (s *Span) seq() uint64 {
	if s.root {
		return s.j.Again(s.quiet, s.e)
	}
	if s.e.Seq == 0 {
		r := s.j.ring
		r.mu.Lock()
		defer r.mu.Unlock()
		if first := r.begun(s.quiet); first != nil { // which is this one
			s.e.Seq, s.quiet.seq = first.Seq, 0
			first.Quiet, first.Count = false, 1
			r.touch(first)
			return s.e.Seq
		}
		s.e.Seq = r.note(&s.e)
	}
	return s.e.Seq
}

// Quiet reports whether the step has had no consequences so far.
func (s *Span) Quiet() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quiet != nil && s.e.Seq == 0 // always, of a root
}

// End notes that the step is over, and why it failed if it did. Only the first End counts.
func (s *Span) End(err error) { s.EndWith(err, nil) }

// EndWith is End with a detail that is only known then; nil leaves the one that it has.
func (s *Span) EndWith(err error, set func(*Event)) {
	if s != nil {
		s.end(time.Now(), err, set)
	}
}

func (s *Span) end(now time.Time, err error, set func(*Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.e.Took != UnderWay { // also a root
		return
	}
	r := s.j.ring
	over := int64(now.Sub(r.start))
	s.e.Took = max(0, time.Duration(over-s.e.At))
	if err != nil {
		s.e.Err = bounds.Cut(err.Error(), MaxText)
	}
	if set != nil {
		set(&s.e)
	}
	if s.e.Seq == 0 {
		s.e.Quiet = true
		s.e.Seq = r.again(s.quiet, &s.e, over)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.find(s.e.Seq)
	if e == nil { // it took so long that its beginning is forgotten
		r.note(&s.e)
		return
	}
	e.Took, e.Err, e.Reason, e.Detail = s.e.Took, s.e.Err, s.e.Reason, s.e.Detail
	r.touch(e)
}

// Tell changes the detail of a step that goes on: how far it is. After its end it does nothing.
func (s *Span) Tell(detail fmt.Stringer) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.e.Took != UnderWay {
		return
	}
	s.e.Detail = detail
	r := s.j.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.find(s.e.Seq); e != nil {
		e.Detail = detail
		r.touch(e)
	}
}

// Abandon ends a step that has not ended because nobody needs its result any more. One without consequences leaves no trace.
func (s *Span) Abandon() {
	if s != nil && (!s.Quiet() || s.first()) {
		s.End(errAbandoned)
	}
}

// first reports whether the step is the first of its series, which is an event already.
func (s *Span) first() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.j.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	return !s.root && r.begun(s.quiet) != nil
}

var errAbandoned = errors.New("nobody needs its result any more")

// spanKey is how a context carries the step that is under way.
type spanKey struct{}

// In returns a context of a step: what happens in it is caused by it.
func In(ctx context.Context, s *Span) context.Context {
	if s == nil {
		return ctx
	}
	return context.WithValue(ctx, spanKey{}, s)
}

// Of returns the step that a context is of; nil if it is of none.
func Of(ctx context.Context) *Span {
	s, _ := ctx.Value(spanKey{}).(*Span)
	return s
}

// Within is Span.Within for the context's step.
func Within(ctx context.Context, e Event) Event { return Of(ctx).Within(e) }

// Within returns the event as part of the step: with that as its cause, and of the same pod and worker's step, where it does not
// say otherwise.
func (s *Span) Within(e Event) Event {
	if s == nil {
		return e
	}
	if e.Cause == 0 {
		e.Cause = s.Seq()
	}
	if e.Pod == "" {
		e.Pod = s.e.Pod // which does not change
	}
	if e.Step == 0 {
		e.Step = s.e.Step
	}
	return e
}

// Owner returns the pod and the worker's step that a step is part of, "" and 0 if it is of none.
func (s *Span) Owner() (pod types.UID, step uint32) {
	if s == nil {
		return "", 0
	}
	return s.e.Pod, s.e.Step // which do not change
}

// NextStep numbers the steps of workers. A pod that takes steps is remembered by its name, however many others there are.
func (j *Journal) NextStep(pod types.UID) uint32 {
	if j == nil || j.ring == nil {
		return 0
	}
	j.ring.mu.Lock()
	defer j.ring.mu.Unlock()
	j.ring.names.refresh(pod)
	j.ring.steps++
	return j.ring.steps
}

// Since returns what was noted or changed after a version, in the order of the events' numbers, and the version of the newest
// change. Since(0) is all that is remembered.
func (j *Journal) Since(version uint64) (events []Event, newest uint64) {
	if j == nil || j.ring == nil {
		return nil, 0
	}
	r := j.ring
	if version == 0 {
		events = make([]Event, 0, len(r.slots)) // not while others wait
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if version >= r.version {
		return nil, r.version
	}
	oldest := uint64(1)
	if r.seq > uint64(len(r.slots)) {
		oldest = r.seq - uint64(len(r.slots)) + 1
	}
	for seq := oldest; seq <= r.seq; seq++ {
		if e := &r.slots[seq%uint64(len(r.slots))]; e.Version > version {
			events = append(events, *e)
		}
	}
	return events, r.version
}

// Get returns an event by its number, as long as it is remembered.
func (j *Journal) Get(seq uint64) (Event, bool) {
	if j == nil || j.ring == nil {
		return Event{}, false
	}
	j.ring.mu.Lock()
	defer j.ring.mu.Unlock()
	if e := j.ring.find(seq); e != nil {
		return *e, true
	}
	return Event{}, false
}

// lookBack is how many events Newest looks through.
const lookBack = 1024

// Newest returns the number of a pod's newest event of a kind, if it is among the last thousand of all pods; else 0.
func (j *Journal) Newest(kind Kind, pod types.UID) uint64 {
	if j == nil || j.ring == nil {
		return 0
	}
	r := j.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq := r.seq; seq > 0 && r.seq-seq < lookBack; seq-- {
		if e := &r.slots[seq%uint64(len(r.slots))]; e.Kind == kind && e.Pod == pod {
			return seq
		}
	}
	return 0
}

// Wait returns when there is a change after the version, or with ctx's error.
func (j *Journal) Wait(ctx context.Context, version uint64) error {
	if j == nil || j.ring == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		r := j.ring
		r.mu.Lock()
		newer := r.version > version
		if !newer && !r.waiting {
			r.waiting, r.changed = true, make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
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

// Epoch names this journal: that of an agent that was started again is another one, whose numbers and versions begin anew.
// "" without a journal.
func (j *Journal) Epoch() string {
	if j == nil || j.ring == nil {
		return ""
	}
	return strconv.FormatInt(j.ring.start.UnixNano(), 36)
}

// Time returns when something was, by the machine's clock as it is now.
func (j *Journal) Time(at int64) time.Time {
	now := time.Now()
	return now.Add(-now.Sub(j.ring.start.Add(time.Duration(at)))).Round(0)
}

// Who is the pod that a UID is of.
type Who struct {
	UID             types.UID
	Namespace, Name string
}

// Know tells the journal which pod a UID is of.
func (j *Journal) Know(w Who) {
	if j == nil || j.ring == nil {
		return
	}
	j.ring.mu.Lock()
	defer j.ring.mu.Unlock()
	j.ring.names.know(w)
}

// Who returns the pod that a UID is of; only the UID if the journal was not told.
func (j *Journal) Who(uid types.UID) Who {
	if j == nil || j.ring == nil {
		return Who{UID: uid}
	}
	j.ring.mu.Lock()
	defer j.ring.mu.Unlock()
	if n := j.ring.names.known[uid]; n != nil {
		return n.Who
	}
	return Who{UID: uid}
}
