package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// layers are the parts of the agent, by the kinds of events that they note.
var layers = map[string]string{
	journal.Source.String(): "file", journal.Problem.String(): "file", journal.Change.String(): "loop", journal.Admit.String(): "loop",
	journal.Reject.String(): "loop", journal.Wake.String(): "loop", journal.Step.String(): "worker", journal.Phase.String(): "worker",
	journal.WaitName.String(): "worker", journal.Plan.String(): "decide", journal.Hold.String(): "decide", journal.Signal.String(): "decide",
	journal.Volume.String(): "volumes", journal.Pull.String(): "image", journal.CRI.String(): "CRI", journal.Docker.String(): "docker",
	journal.Engine.String(): "docker", journal.List.String(): "PLEG", journal.Look.String(): "PLEG", journal.PodEvent.String(): "PLEG",
	journal.Probe.String(): "probe", journal.Status.String(): "status", journal.StatusWrite.String(): "status",
	journal.Object.String(): "objects", journal.Said.String(): "event", journal.Timer.String(): "timer", journal.Gate.String(): "gate",
}

// order is that of the layers from the outside to Docker.
var order = []string{"timer", "file", "objects", "loop", "worker", "decide", "volumes", "image", "CRI", "docker", "PLEG", "probe", "status", "event", "gate"}

// nests reports whether events of a kind are part of what caused them, and not what comes of it.
func nests(kind string) bool {
	switch kind {
	case journal.Source.String(), journal.Change.String(), journal.Wake.String(), journal.Step.String(), journal.Engine.String(), journal.List.String(), journal.Timer.String():
		return false
	}
	return true
}

// origin reports whether an event needs no cause that the journal knows: the world, or a clock.
func origin(n *node) bool { return Origin(n.Shown) }

// Origin reports whether an event comes from outside of the agent or of a clock: a source, an object, the runtime's event stream, a
// timer, a relist, a probe's turn.
func Origin(e journal.Shown) bool {
	switch e.Kind {
	case journal.Source.String(), journal.Problem.String(), journal.Engine.String(), journal.Object.String(), journal.Timer.String():
		return true
	case journal.List.String(), journal.Probe.String():
		return e.Cause == 0
	case journal.Wake.String():
		return e.Cause == 0 && timers[e.Reason]
	}
	return false
}

// timers are the reasons of wake-ups by a clock, or by what is looked at by one.
var timers = map[string]bool{"tick": true, "housekeeping": true, "eviction": true}

const (
	maxText = 300 // bytes of a line
	idShown = 12  // of a container's ID, as Docker shows them
)

// words says what happened.
func (f forest) words(n *node) string {
	var text string
	switch e := n.Shown; e.Kind {
	case journal.Source.String():
		text = join(" · ", e.Name, e.Reason, e.Detail)
	case journal.Problem.String():
		text = join(" · ", e.Name, e.Reason, e.Detail)
	case journal.Change.String():
		text = join(" · ", e.Reason, e.Name, e.Detail)
	case journal.Admit.String():
		text = join(" · ", "admitted", e.Reason, e.Detail)
	case journal.Reject.String():
		text = join(" · ", "rejected", e.Reason, e.Detail)
	case journal.Wake.String():
		text = join(" · ", "woken by "+e.Reason, e.Name, e.Detail)
	case journal.Step.String():
		text = join(" · ", fmt.Sprintf("step %d", e.Step), e.Reason)
		if cause := f.known[e.Cause]; cause != nil && cause.Count > 1 && cause.UID != e.UID {
			text = join(" · ", text, "woken by "+cmp.Or(cause.Reason, cause.Name))
		}
		if len(n.children) == 0 {
			text = join(" · ", text, e.Detail)
		}
	case journal.Phase.String():
		text = join(" · ", e.Name+" → "+e.Reason, e.Detail)
	case journal.WaitName.String():
		text = join(" · ", "waits for the pod before it, "+e.Name, e.Detail)
	case journal.Plan.String():
		text = join(" · ", e.Detail, e.Reason, e.Name)
	case journal.Hold.String():
		text = join(" · ", e.Name+" is left alone", e.Reason, e.Detail)
	case journal.Signal.String():
		text = join(" · ", e.Name+" is stopped", e.Reason, e.Detail)
	case journal.CRI.String():
		text = join(" ", e.Name, shortIDs(e.Detail))
	case journal.Docker.String():
		text = join(" ", e.Name, shortIDs(e.Detail))
	case journal.Engine.String():
		text = join(" ", "the runtime's event", e.Reason, shortIDs(e.Name), e.Detail)
	case journal.List.String():
		text = join(" · ", "relist", e.Reason, e.Detail)
	case journal.Look.String():
		text = join(" · ", "looks at the pod", e.Reason, shortIDs(e.Name), e.Detail)
	case journal.PodEvent.String():
		text = join(" ", e.Reason, shortIDs(e.Name), e.Detail)
	case journal.Gate.String():
		text = join(" · ", "held in teaching mode", e.Name, e.Reason, e.Detail)
	case journal.StatusWrite.String():
		text = join(" · ", "sent to the API server", e.Reason, e.Detail)
	case journal.Said.String():
		text = join(": ", join(" · ", e.Name, e.Reason), e.Detail)
	case journal.Status.String():
		text = cmp.Or(e.Detail, e.Reason)
	case journal.Volume.String(), journal.Pull.String(), journal.Probe.String(), journal.Object.String():
		text = join(" · ", e.Name, e.Reason, e.Detail)
	default:
		text = join(" · ", e.Kind, e.Name, e.Reason, e.Detail)
	}
	text = join(": ", text, n.Error)
	if n.Count > 1 {
		text = fmt.Sprintf("%s ×%d", cut(text), n.Count)
		if n.Last != nil {
			text += ", the last " + duration(max(0, n.Last.Sub(n.Time))) + " later"
		}
		return visible.Text(text)
	}
	return cut(text)
}

// endWords says how a step ended.
func endWords(n *node) string {
	text := join(" · ", fmt.Sprintf("step %d done", n.Step), n.Detail)
	if n.Error != "" {
		text = join(": ", fmt.Sprintf("step %d failed", n.Step), n.Error)
	}
	return cut(text)
}

func cut(text string) string { return bounds.Cut(visible.Text(bounds.Cut(text, maxText)), 2*maxText) }

// join joins what is not empty.
func join(by string, words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), by)
}

// isID reports whether a text is the ID of a container.
func isID(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}

// shortIDs writes the IDs of containers in a text as Docker does.
func shortIDs(text string) string {
	if len(text) < 64 || len(text) > maxText {
		return text
	}
	words := strings.Split(text, " ")
	for i, w := range words {
		if bare := strings.TrimPrefix(w, "sha256:"); isID(bare) {
			words[i] = bare[:idShown]
		}
	}
	return strings.Join(words, " ")
}

// calls are those that are told in one line with what they were made for: calls to Docker, and of PLEG's looks those of CRI.
func (n *node) calls() []*node {
	kind := journal.Docker.String()
	if n.Kind == journal.Look.String() {
		kind = journal.CRI.String()
	}
	return slices.DeleteFunc(slices.Clone(n.children), func(c *node) bool { return c.Kind != kind })
}

// folded reports whether an event is told in one line with others.
func (n *node) folded() bool {
	return n.parent != nil && (n.Kind == journal.Docker.String() || n.Kind == journal.CRI.String() && n.parent.Kind == journal.Look.String())
}

// mostCalls is how many calls a line names.
const mostCalls = 8

// tellCalls says in one line which calls were made, equal ones counted.
func tellCalls(list []*node) string {
	type calls struct {
		name  string
		count int
		took  time.Duration
	}
	var all []calls
	for _, c := range list {
		name := c.Name
		if c.Error != "" {
			name = join(": ", name, c.Error)
		}
		i := slices.IndexFunc(all, func(o calls) bool { return o.name == name })
		if i < 0 {
			i, all = len(all), append(all, calls{name: name})
		}
		all[i].count += max(1, int(c.Count))
		all[i].took += time.Duration(c.to - c.from)
	}
	var told []string
	for _, c := range all[:min(len(all), mostCalls)] {
		if c.count > 1 {
			c.name += fmt.Sprintf(" ×%d", c.count)
		}
		told = append(told, cut(c.name)+" "+duration(c.took))
	}
	if more := len(all) - len(told); more > 0 {
		told = append(told, fmt.Sprintf("%d others", more))
	}
	return strings.Join(told, " · ")
}

// duration writes how long something took: milliseconds, and from ten seconds on in larger units.
func duration(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d < 0:
		return "?"
	case ms < 9.95:
		return fmt.Sprintf("%.1f ms", ms)
	case d < 10*time.Second:
		return fmt.Sprintf("%.0f ms", ms)
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
