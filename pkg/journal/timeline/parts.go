package timeline

import (
	"cmp"
	"slices"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// PartKind is how a part of the time was spent.
type PartKind int

// The kinds of parts.
const (
	Leaf        PartKind = iota // in one thing, in which nothing else happened
	Own                         // in something between the things that happened in it
	Wait                        // nothing happened; it is known what was waited for
	Unaccounted                 // nothing happened, and what came then had no cause that is known
)

// Part is a part of a time.
type Part struct {
	Kind PartKind
	Name string // for a terminal
	Took time.Duration
}

// stretch is a time in which one thing happened, or nothing.
type stretch struct {
	from, to int64
	kind     PartKind
	name     string
	ended    *node // of waits: what came then
}

// parts says where the time between two moments went. The parts' sum is that time.
func (f forest) parts(from, to int64) []Part {
	var out []Part
	for _, s := range f.stretches(from, to) {
		i := slices.IndexFunc(out, func(p Part) bool { return p.Kind == s.kind && p.Name == s.name })
		if i < 0 {
			i, out = len(out), append(out, Part{Kind: s.kind, Name: s.name})
		}
		out[i].Took += time.Duration(s.to - s.from)
	}
	slices.SortStableFunc(out, func(a, b Part) int { return cmp.Compare(b.Took, a.Took) })
	return out
}

// waits are the times from a moment until the last event in which nothing happened.
func (f forest) waits(from int64) []stretch {
	to := from
	for _, n := range f.nodes {
		to = max(to, n.to)
	}
	return slices.DeleteFunc(f.stretches(from, to), func(s stretch) bool { return s.kind != Wait && s.kind != Unaccounted })
}

// lastWait is the time from the last event of a pod that there is until now.
func (f forest) lastWait(from int64, o Options) stretch {
	s := stretch{from: from, to: nanos(o.Now), kind: Wait, name: "for something to happen"}
	if o.Gone {
		return stretch{}
	}
	var held *node
	for _, n := range f.nodes {
		s.from = max(s.from, n.to, last(n))
		held = holds(n, held)
	}
	if held != nil {
		s.name = heldName(held)
	}
	return s
}

// stretches divides a time by the deepest thing that happens at each moment.
func (f forest) stretches(from, to int64) []stretch {
	bounds := []int64{from, to}
	for _, n := range f.nodes {
		for _, at := range []int64{n.from, n.to} {
			if at > from && at < to {
				bounds = append(bounds, at)
			}
		}
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	var out []stretch
	var active []*node
	var held *node // a back-off that is under way
	next := 0
	for i := range len(bounds) - 1 {
		s := stretch{from: bounds[i], to: bounds[i+1]}
		for ; next < len(f.nodes) && f.nodes[next].from <= s.from; next++ {
			n := f.nodes[next]
			if n.span() {
				active = append(active, n)
			}
			held = holds(n, held)
		}
		active = slices.DeleteFunc(active, func(n *node) bool { return n.to <= s.from })
		if len(active) > 0 {
			n := slices.MaxFunc(active, deeper)
			s.kind, s.name = Leaf, partName(n)
			if n.whole() {
				s.kind, s.name = Own, partName(n)+" itself"
			}
		} else {
			s.kind, s.name = Unaccounted, "unaccounted for"
			if next < len(f.nodes) {
				s.ended = f.nodes[next]
				s.kind, s.name = f.waitName(s.ended, held)
			}
		}
		if last := len(out) - 1; last >= 0 && out[last].kind == s.kind && out[last].name == s.name && s.kind != Leaf && out[last].ended == nil {
			out[last].to, out[last].ended = s.to, s.ended
			continue
		}
		out = append(out, s)
	}
	return out
}

// deeper compares what happens at the same moment.
func deeper(a, b *node) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.depth, b.depth), cmp.Compare(a.from, b.from))
}

// rank is higher for what a pod more probably waits for: what is done in a step of its worker, then PLEG's look, for which a step in
// which nothing is done may wait, then that step, and then what others do beside it.
func (n *node) rank() int {
	root := n
	for root.parent != nil {
		root = root.parent
	}
	switch {
	case root.Kind == journal.Step.String() && root != n:
		return 3
	case root.Kind == journal.Look.String():
		return 2
	case root.Kind == journal.Step.String():
		return 1
	}
	return 0
}

// holds returns the back-off that is under way after an event.
func holds(n, held *node) *node {
	switch {
	case n.Kind == journal.Hold.String():
		return n
	case n.Kind == journal.CRI.String() && (n.Name == "StartContainer" || n.Name == "RunPodSandbox"):
		return nil
	}
	return held
}

// partName names what takes time; equal names are one part.
func partName(n *node) string {
	name := n.Name
	switch n.Kind {
	case journal.Step.String():
		name = "step"
	case journal.Look.String():
		name = "look"
	case journal.List.String():
		name = "relist"
	}
	return cut(join(" ", layers[n.Kind], name))
}

// heldName names a back-off.
func heldName(held *node) string {
	whose := "the"
	if held.Name != "" {
		whose = held.Name + "'s"
	}
	return cut("for the end of " + whose + " back-off (" + held.Reason + ")")
}

// waitName says what was waited for, by what came then.
func (f forest) waitName(ended, held *node) (PartKind, string) {
	if held != nil && (ended.Kind == journal.Wake.String() || ended.Kind == journal.Step.String()) {
		return Wait, heldName(held)
	}
	cause := f.known[ended.Cause]
	if !origin(ended) && cause == nil {
		return Unaccounted, "unaccounted for"
	}
	switch ended.Kind {
	case journal.Source.String(), journal.Problem.String():
		return Wait, "for a change of what is wanted"
	case journal.Change.String(), journal.Admit.String(), journal.Reject.String():
		return Wait, "for the loop"
	case journal.Wake.String():
		if origin(ended) {
			return Wait, "for the next look (" + cut(ended.Reason) + ")"
		}
		return Wait, "for the loop"
	case journal.Step.String():
		if origin(cause) {
			return Wait, "for the next look (" + cut(cause.Reason) + ")"
		}
		return Wait, "for the worker"
	case journal.Engine.String():
		return Wait, "for the containers, until Docker's event"
	case journal.List.String(), journal.Look.String(), journal.PodEvent.String():
		return Wait, "for PLEG"
	case journal.Probe.String():
		return Wait, "for the probe's turn"
	case journal.Object.String():
		return Wait, "for an object"
	}
	return Wait, "for " + layers[ended.Kind]
}
