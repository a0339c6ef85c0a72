package pleg

import "github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"

// diff returns what happened to a pod between two views of it; nil is a pod that
// the runtime does not have. Pure.
func diff(before, now *actual.Pod) []Event {
	was, is := states(before), states(now)
	pod := now
	if pod == nil {
		pod = before
	}
	if pod == nil {
		return nil
	}
	var events []Event
	tell := func(id string, types ...EventType) {
		for _, t := range types {
			events = append(events, Event{PodUID: pod.UID, Type: t, ContainerID: id})
		}
	}
	for _, c := range is {
		if old, ok := find(was, c.id); !ok || old != c.state {
			switch c.state {
			case actual.StateRunning:
				tell(c.id, ContainerStarted)
			case actual.StateExited:
				tell(c.id, ContainerDied)
			case actual.StateUnknown:
				tell(c.id, ContainerChanged)
			}
		}
	}
	for _, c := range was {
		if _, ok := find(is, c.id); !ok {
			// Gone without having been seen dead: report both.
			if c.state != actual.StateExited {
				tell(c.id, ContainerDied)
			}
			tell(c.id, ContainerRemoved)
		}
	}
	return events
}

type idState struct {
	id    string
	state actual.State
}

// states lists a pod's containers and sandboxes alike: to the loop, a sandbox that
// died is as good a reason to look as a container that died.
func states(p *actual.Pod) []idState {
	if p == nil {
		return nil
	}
	s := make([]idState, 0, len(p.Containers)+len(p.Sandboxes))
	for _, c := range p.Containers {
		s = append(s, idState{c.ID, c.State})
	}
	for _, b := range p.Sandboxes {
		s = append(s, idState{b.ID, b.State})
	}
	return s
}

func find(s []idState, id string) (actual.State, bool) {
	for _, c := range s {
		if c.id == id {
			return c.state, true
		}
	}
	return "", false
}

// same reports whether two views of a pod show the same containers in the same states.
func same(a, b *actual.Pod) bool {
	if a == nil || b == nil || len(a.Containers) != len(b.Containers) || len(a.Sandboxes) != len(b.Sandboxes) {
		return false
	}
	for i := range a.Containers {
		if a.Containers[i].ID != b.Containers[i].ID || a.Containers[i].State != b.Containers[i].State {
			return false
		}
	}
	for i := range a.Sandboxes {
		if a.Sandboxes[i].ID != b.Sandboxes[i].ID || a.Sandboxes[i].State != b.Sandboxes[i].State {
			return false
		}
	}
	return true
}

// corrected returns events for containers whose end is told otherwise than before, though they
// had exited in both views: a runtime can hear of an OOM kill after the exit. Pure.
func corrected(before, now *actual.PodStatus) []Event {
	if before == nil || now == nil {
		return nil
	}
	ended := map[string]*actual.ContainerStatus{}
	for _, c := range before.Containers {
		if c.State == actual.StateExited {
			ended[c.ID.ID] = c
		}
	}
	var events []Event
	for _, c := range now.Containers {
		was := ended[c.ID.ID]
		if was != nil && c.State == actual.StateExited && (c.Reason != was.Reason || c.ExitCode != was.ExitCode) {
			events = append(events, Event{PodUID: now.UID, Type: ContainerChanged, ContainerID: c.ID.ID})
		}
	}
	return events
}
