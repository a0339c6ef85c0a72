package timeline

import (
	"strings"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Of returns the events of one pod, and those outside of it which caused them, in their order.
func Of(events []journal.Shown, uid string) []journal.Shown {
	at := make(map[uint64]int, len(events))
	for i, e := range events {
		at[e.Seq] = i
	}
	in := make([]bool, len(events))
	for i := range events {
		if events[i].UID != uid || in[i] {
			continue
		}
		// What is in already has its causes in, or is about to get them.
		for known := true; known && !in[i]; i, known = at[events[i].Cause] {
			in[i] = true
		}
	}
	var own []journal.Shown
	for i, e := range events {
		if in[i] {
			own = append(own, e)
		}
	}
	return own
}

// Chain returns an event and what caused it, the effect first. It ends where a cause is not known, or is a circle.
func Chain(events []journal.Shown, seq uint64) []journal.Shown {
	known := make(map[uint64]journal.Shown, len(events))
	for _, e := range events {
		known[e.Seq] = e
	}
	var chain []journal.Shown
	for e, found := known[seq]; found; e, found = known[e.Cause] {
		chain = append(chain, e)
		delete(known, e.Seq)
	}
	return chain
}

// Pod is one that events are about.
type Pod struct {
	Namespace, Name, UID string
}

// Find returns the pods that are called so, the one with the newest event first: by UID, by name, or by the name of a manifest, to
// which the node adds its own. A namespace or node of "" is any.
func Find(events []journal.Shown, namespace, name, node string) []Pod {
	for _, kind := range []string{"pod/", "pods/", "po/"} {
		if rest, ok := strings.CutPrefix(name, kind); ok {
			name = rest
			break
		}
	}
	byUID := func(e *journal.Shown) bool { return e.UID == name }
	byName := func(e *journal.Shown) bool { return e.Pod == name }
	byManifest := func(e *journal.Shown) bool { return node != "" && e.Pod == name+"-"+node }
	for _, is := range []func(*journal.Shown) bool{byUID, byName, byManifest} {
		var found []Pod
		seen := map[string]bool{}
		for i := len(events) - 1; i >= 0; i-- {
			e := &events[i]
			if e.UID == "" || seen[e.UID] || namespace != "" && e.Namespace != namespace || !is(e) {
				continue
			}
			seen[e.UID] = true
			found = append(found, Pod{Namespace: e.Namespace, Name: e.Pod, UID: e.UID})
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}
