package timeline

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// micros is a time in nanoseconds, written in microseconds, the unit of the format.
type micros int64

// MarshalJSON implements json.Marshaler.
func (m micros) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(m)/1e3, 'f', 3, 64), nil
}

// ChromeEvent is one entry of a ChromeTrace.
type ChromeEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"` // X: complete; M: metadata; s and f: the ends of an arrow
	At       micros         `json:"ts"`
	Took     *micros        `json:"dur,omitempty"`
	PID      int            `json:"pid"`
	TID      int            `json:"tid"`
	ID       uint64         `json:"id,omitempty"`
	Binding  string         `json:"bp,omitempty"`
	Args     map[string]any `json:"args,omitempty"`
}

// ChromeTrace is a trace in the format of Chrome, which https://ui.perfetto.dev opens.
type ChromeTrace struct {
	Events []ChromeEvent `json:"traceEvents"`
	Unit   string        `json:"displayTimeUnit"`
}

// track is one row of a trace. What is on it nests, or follows one after the other.
type track struct {
	name string
	open []*node
}

// take puts what begins now on the track if it fits there.
func (t *track) take(n *node) bool {
	for len(t.open) > 0 && t.open[len(t.open)-1].to <= n.from {
		t.open = t.open[:len(t.open)-1]
	}
	if len(t.open) > 0 && t.open[len(t.open)-1].to < n.to {
		return false
	}
	t.open = append(t.open, n)
	return true
}

// Chrome makes a trace of the events of one pod and their causes: a track a layer, and another one where things of a layer
// overlap. Arrows lead from causes to effects on other tracks. Times are since the first event.
func Chrome(events []journal.Shown, uid string, now time.Time) ChromeTrace {
	trace := ChromeTrace{Events: []ChromeEvent{}, Unit: "ms"}
	f := plant(events, uid, now)
	nodes := f.nodes
	if len(nodes) == 0 {
		return trace
	}
	// What contains others comes before them.
	slices.SortStableFunc(nodes, func(a, b *node) int {
		if a.from != b.from {
			return int(max(-1, min(1, a.from-b.from)))
		}
		return int(max(-1, min(1, b.to-a.to)))
	})
	start := nodes[0].from
	byLayer := map[string][]*track{}
	on := make(map[uint64]*track, len(nodes))
	for _, n := range nodes {
		on[n.Seq] = place(byLayer, n)
	}
	ids := map[*track]int{}
	for _, layer := range append(slices.Clone(order), "") {
		for _, t := range byLayer[layer] {
			ids[t] = len(ids) + 1
			trace.Events = append(trace.Events,
				ChromeEvent{Name: "thread_name", Phase: "M", PID: 1, TID: ids[t], Args: map[string]any{"name": t.name}},
				ChromeEvent{Name: "thread_sort_index", Phase: "M", PID: 1, TID: ids[t], Args: map[string]any{"sort_index": ids[t]}})
		}
	}
	for _, n := range nodes {
		took := micros(n.to - n.from)
		trace.Events = append(trace.Events, ChromeEvent{
			Name: f.words(n), Category: n.Kind, Phase: "X", At: micros(n.from - start), Took: &took, PID: 1, TID: ids[on[n.Seq]], Args: args(n),
		})
		// An arrow is bound to what is open on its track, so that only what takes time can have one.
		if c := f.known[n.Cause]; c != nil && on[c.Seq] != nil && on[c.Seq] != on[n.Seq] && c.span() && n.span() && c.from <= n.from {
			from := ChromeEvent{Name: "cause", Category: "cause", Phase: "s", At: micros(min(n.from, c.to-1) - start), PID: 1, TID: ids[on[c.Seq]], ID: n.Seq}
			to := from
			to.Phase, to.Binding, to.At, to.TID = "f", "e", micros(n.from-start), ids[on[n.Seq]]
			trace.Events = append(trace.Events, from, to)
		}
	}
	return trace
}

// place returns the first track of the event's layer on which it fits, a new one if there is none.
func place(byLayer map[string][]*track, n *node) *track {
	layer := layers[n.Kind]
	for _, t := range byLayer[layer] {
		if t.take(n) {
			return t
		}
	}
	t := &track{name: layer}
	if layer == "" {
		t.name = "other"
	}
	if more := len(byLayer[layer]); more > 0 {
		t.name += fmt.Sprintf(" %d", more+1)
	}
	t.take(n)
	byLayer[layer] = append(byLayer[layer], t)
	return t
}

// args is what is shown of an event that is chosen.
func args(n *node) map[string]any {
	all := map[string]any{"seq": n.Seq}
	for name, text := range map[string]string{"name": n.Name, "reason": n.Reason, "detail": n.Detail, "error": n.Error, "pod": n.Pod} {
		if text != "" {
			all[name] = cut(text)
		}
	}
	if n.Cause != 0 {
		all["cause"] = n.Cause
	}
	if n.Count > 1 {
		all["count"] = n.Count
	}
	return all
}
