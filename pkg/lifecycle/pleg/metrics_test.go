package pleg

import (
	"maps"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

func TestCount(t *testing.T) {
	s := func(states ...actual.State) (all []actual.Sandbox) {
		for _, st := range states {
			all = append(all, actual.Sandbox{State: st})
		}
		return all
	}
	pods, containers := count([]*actual.Pod{
		{Sandboxes: s(actual.StateRunning, actual.StateExited), Containers: []actual.Container{{State: actual.StateRunning}, {State: actual.StateExited}}},
		{Sandboxes: s(actual.StateExited), Containers: []actual.Container{{State: actual.StateExited}}}, {},
	})
	if want := map[actual.State]int{actual.StateRunning: 1, actual.StateExited: 2}; pods != 1 || !maps.Equal(containers, want) {
		t.Errorf("%d pods, containers %v", pods, containers)
	}
}
