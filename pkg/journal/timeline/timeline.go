// Package timeline makes the time line of one pod of what a journal shows: who caused what, how long it took, where nothing
// happened, and where the time went. It is pure, and takes events as they come: causes that are forgotten or go in circles,
// times out of order and names of any length make a poor time line, and nothing worse.
//
//	[]journal.Shown ──▶ Of (one pod and its causes) ──▶ New (lines, waits, parts) ──▶ Write: text
//	                                     └──▶ Chrome: for Perfetto
package timeline

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Options say what of a time line is wanted.
type Options struct {
	Now  time.Time // when what is under way has come so far
	Gone bool      // the pod is no more: what is told of it ends with its last event
	Runs bool      // its phase is Running now, since when may be forgotten
	// Gaps is from how long on a wait has a line of its own; 0: DefaultGap.
	Gaps time.Duration
	// Began is when offsets count from, if it is known; else it is when the first cause was.
	Began time.Time
	// Since leaves out the lines of what was over before.
	Since time.Time
	// Container leaves out the lines of what is about other containers; "": none.
	Container string
}

// DefaultGap is how long a wait is that has a line of its own if nothing else is said.
const DefaultGap = 100 * time.Millisecond

// Timeline is what happened to one pod.
type Timeline struct {
	Namespace, Pod, UID string

	// Began is when the first cause was; Beginning, what layer that is of. Forgotten: the journal does not reach back to it.
	Began     time.Time
	Beginning string
	Forgotten bool

	// Total is the time from Began to Running; if the pod has not got there, until now, or until the last event of one that is gone.
	Total   time.Duration
	Running bool
	Gone    bool
	Runs    bool // it is Running now: without Running it is forgotten since when

	Lines []Line
	Parts []Part // of Total, the biggest first
}

// Line is one thing that happened, or a time in which nothing did. Its text obeys no terminal.
type Line struct {
	Seq      uint64        // of the event; of a wait, of what ended it
	At       time.Duration // since Began
	Depth    int           // in how many others it is contained
	Layer    string
	Text     string
	Took     time.Duration // 0: it has no duration
	UnderWay bool
	Failed   bool
	Wait     bool // nothing happened for as long as it took
	Beside   bool // it happened beside a step of the worker, of which it is no part
	Whole    bool // a step: its end has a line of its own
	End      bool // that line
}

// node is an event with its place in the tree.
type node struct {
	journal.Shown
	from, to int64 // nanoseconds since the epoch
	depth    int
	parent   *node
	children []*node
}

// span reports whether it takes time. Of merged events it is only known how long the last took.
func (n *node) span() bool { return n.to > n.from }

func (n *node) underWay() bool { return n.TookNS < 0 }

// whole reports whether something that takes time happens in it.
func (n *node) whole() bool { return slices.ContainsFunc(n.children, (*node).span) }

// slack is by how much times of one moment differ, since each is told by the clock as it is when it is shown.
const slack = int64(20 * time.Microsecond)

// maxDepth bounds how deep events are nested; the agent's own are at most six deep.
const maxDepth = 16

// forest is all events of a time line, in order of time.
type forest struct {
	nodes []*node
	known map[uint64]*node // by number, with those of others
}

// plant places events in order of time, each below its cause if it happened within that. What was merged of several pods, such as
// the tick, has no place in the time line of one, and is only known as a cause.
func plant(events []journal.Shown, uid string, now time.Time) forest {
	f := forest{nodes: make([]*node, 0, len(events)), known: make(map[uint64]*node, len(events))}
	for _, e := range events {
		if f.known[e.Seq] != nil {
			continue
		}
		n := &node{Shown: e, from: nanos(e.Time)}
		n.to = n.from
		switch {
		case n.underWay():
			n.to = max(n.from, nanos(now))
		case e.Count <= 1:
			n.to = n.from + min(e.TookNS, int64(century))
		}
		f.known[e.Seq] = n
		if n.UID == uid || n.Count <= 1 {
			f.nodes = append(f.nodes, n)
		}
	}
	slices.SortStableFunc(f.nodes, func(a, b *node) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.Seq, b.Seq)) })
	// A cause is older, by its number, than what it causes: no circle comes about. In this order each parent has its depth first.
	bySeq := slices.Clone(f.nodes)
	slices.SortFunc(bySeq, func(a, b *node) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, n := range bySeq {
		p := f.known[n.Cause]
		if p == nil || p.Seq >= n.Seq || !nests(n.Kind) || !p.span() || n.from < p.from-slack || n.from > p.to+slack || p.depth == maxDepth {
			continue
		}
		n.parent, n.depth = p, p.depth+1
	}
	for _, n := range f.nodes {
		if n.parent != nil {
			n.parent.children = append(n.parent.children, n)
		}
	}
	return f
}

// century bounds durations, so that sums of them do not overflow.
const century = 100 * 365 * 24 * time.Hour

// nanos is a time of this or the neighbouring centuries.
func nanos(t time.Time) int64 {
	epoch := time.Unix(0, 0)
	if t.Before(epoch) {
		return 0
	}
	return min(int64(t.Sub(epoch)), int64(century))
}

// New makes a time line of the events of one pod and their causes, as Of returns them.
func New(events []journal.Shown, uid string, o Options) Timeline {
	t := Timeline{UID: uid, Gone: o.Gone, Runs: o.Runs}
	f := plant(events, uid, o.Now)
	if len(f.nodes) == 0 {
		return t
	}
	for _, n := range f.nodes {
		if n.UID == uid && n.Pod != "" {
			t.Namespace, t.Pod = n.Namespace, n.Pod
		}
	}
	first, from, to := t.span(f, uid, o)
	if !o.Began.IsZero() {
		from = nanos(o.Began)
		to = max(from, to)
	}
	t.Began, t.Beginning = time.Unix(0, from), layers[first.Kind]
	t.Forgotten = !origin(first)
	t.Total = time.Duration(to - from)
	t.Parts = f.parts(from, to)
	t.Lines = f.lines(from, o)
	return t
}

// span finds from where to where the time line is told as a whole: from the first cause of the pod's first event until the pod
// runs. It sets Running.
func (t *Timeline) span(f forest, uid string, o Options) (first *node, from, to int64) {
	i := slices.IndexFunc(f.nodes, func(n *node) bool { return n.UID == uid })
	first = f.nodes[max(0, i)]
	for seen := map[uint64]bool{first.Seq: true}; ; {
		cause := f.known[first.Cause]
		if cause == nil || seen[cause.Seq] || cause.from > first.from+slack || cause.Count > 1 {
			break
		}
		seen[cause.Seq] = true
		first = cause
	}
	from = first.from
	for _, n := range f.nodes {
		if n.UID != uid {
			continue
		}
		if becameRunning(n) && n.from >= from {
			t.Running = true
			return first, from, n.to
		}
		to = max(to, n.to, last(n))
	}
	if !o.Gone {
		to = nanos(o.Now)
	}
	return first, from, max(to, from)
}

// becameRunning reports whether an event says that the pod's phase is Running from then on.
func becameRunning(n *node) bool {
	return n.Kind == journal.Status.String() && n.Reason == "Running" && strings.HasPrefix(n.Detail, "phase ")
}

// lines are those of the events, with the waits between them. What happens in one thing stands together, but for steps of the
// worker, beside which other things happen.
func (f forest) lines(from int64, o Options) []Line {
	l := lister{forest: f, from: from, since: o.Since, wanted: f.about(o.Container)}
	for _, n := range f.nodes {
		if n.parent == nil || n.parent.Kind == journal.Step.String() {
			l.blocks = append(l.blocks, block{at: n.from})
			l.list(n)
		}
	}
	gaps := cmp.Or(o.Gaps, DefaultGap)
	waits := f.waits(from)
	if last := f.lastWait(from, o); last.to > last.from {
		waits = append(waits, last)
	}
	for _, w := range waits {
		if took := time.Duration(w.to - w.from); took >= gaps && (l.wanted == nil || w.ended == nil || l.wanted[w.ended]) {
			line := Line{At: time.Duration(w.from - from), Layer: "wait", Text: w.name, Took: took, Wait: true, UnderWay: w.ended == nil}
			if w.ended != nil {
				line.Seq = w.ended.Seq
			}
			l.blocks = append(l.blocks, block{at: w.from})
			l.add(w.to, line)
		}
	}
	slices.SortStableFunc(l.blocks, func(a, b block) int { return cmp.Compare(a.at, b.at) })
	return inOrder(l.blocks)
}

// inOrder returns the lines of blocks, and marks those beside steps.
func inOrder(blocks []block) []Line {
	var out []Line
	open := map[uint64]bool{} // steps
	for _, b := range blocks {
		if len(b.lines) == 0 {
			continue
		}
		first := b.lines[0]
		if first.End {
			delete(open, first.Seq)
		}
		for _, l := range b.lines {
			l.Beside = len(open) > 0 && first.Depth == 0 && !l.Whole && !l.End
			out = append(out, l)
		}
		if first.Whole {
			open[first.Seq] = true
		}
	}
	return out
}

// block is lines that stand together.
type block struct {
	at    int64
	lines []Line
}

// lister makes lines of events.
type lister struct {
	forest
	from   int64
	since  time.Time
	wanted map[*node]bool // nil: all
	blocks []block
}

// add adds a line about something that is over at that time to the last block.
func (l *lister) add(over int64, line Line) {
	if !time.Unix(0, over).Before(l.since) {
		b := &l.blocks[len(l.blocks)-1]
		b.lines = append(b.lines, line)
	}
}

// list adds the lines of an event and of what happened in it. Calls are one line; a step of the worker begins here, and its end is
// a block of its own.
func (l *lister) list(n *node) {
	if n.folded() {
		return
	}
	line := Line{Seq: n.Seq, At: time.Duration(n.from - l.from), Depth: n.depth, Layer: layers[n.Kind], Text: l.words(n), Failed: n.Error != "", UnderWay: n.underWay()}
	line.Whole = n.Kind == journal.Step.String() && len(n.children) > 0
	switch {
	case n.Count > 1:
		line.Took = max(0, time.Duration(n.TookNS))
	case !line.Whole:
		line.Took = time.Duration(n.to - n.from)
	}
	show := l.wanted == nil || l.wanted[n]
	if show {
		l.add(max(n.to, last(n)), line)
	}
	if calls := n.calls(); len(calls) > 0 && show {
		l.add(n.to, Line{Seq: calls[0].Seq, At: time.Duration(calls[0].from - l.from), Depth: n.depth + 1, Layer: layers[calls[0].Kind], Text: tellCalls(calls), UnderWay: n.underWay()})
	}
	if line.Whole {
		if show && !n.underWay() {
			end := Line{Seq: n.Seq, At: time.Duration(n.to - l.from), Depth: n.depth, Layer: line.Layer, Text: endWords(n), Took: time.Duration(n.to - n.from), Failed: line.Failed, End: true}
			l.blocks = append(l.blocks, block{at: n.to})
			l.add(n.to, end)
		}
		return
	}
	for _, c := range n.children {
		l.list(c)
	}
}

// last is when the last of merged events was.
func last(n *node) int64 {
	if n.Last == nil {
		return n.from
	}
	return nanos(*n.Last)
}

// about returns which events are about a container, what is within them, and what caused them; nil if all are wanted.
func (f forest) about(container string) map[*node]bool {
	if container == "" {
		return nil
	}
	ids := map[string]bool{}
	for _, n := range f.nodes {
		if name, id, _ := strings.Cut(n.Detail, " "); n.Kind == journal.CRI.String() && name == container && isID(id) {
			ids[id] = true
		}
	}
	wanted := map[*node]bool{}
	var within func(n *node)
	within = func(n *node) {
		wanted[n] = true
		for _, c := range n.children {
			within(c)
		}
	}
	for _, n := range f.nodes {
		if !names(n, container, ids) {
			continue
		}
		within(n)
		for cause := f.known[n.Cause]; cause != nil && !wanted[cause]; cause = f.known[cause.Cause] {
			wanted[cause] = true
		}
	}
	return wanted
}

// names reports whether an event is about a container, by its name or one of its IDs.
func names(n *node, container string, ids map[string]bool) bool {
	switch n.Kind {
	case journal.Hold.String(), journal.Signal.String(), journal.Said.String():
		return n.Name == container
	case journal.Probe.String():
		name, _, _ := strings.Cut(n.Name, "/")
		return name == container
	case journal.PodEvent.String():
		return ids[n.Name]
	case journal.CRI.String():
		name, _, _ := strings.Cut(n.Detail, " ")
		return ids[name] || name == container && n.Name == "CreateContainer"
	case journal.Plan.String(), journal.Status.String():
		return slices.Contains(strings.FieldsFunc(n.Detail, notName), container)
	}
	return false
}

// notName reports whether a letter is in no container's name.
func notName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
}
