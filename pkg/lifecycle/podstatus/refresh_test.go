package podstatus

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

func TestRefresh(t *testing.T) {
	before, now := time.Unix(1000, 0), time.Unix(2000, 0)
	always := v1.ContainerRestartPolicyAlways
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Name: "p"}, Spec: v1.PodSpec{
		InitContainers: []v1.Container{{Name: "side", RestartPolicy: &always}, {Name: "init"}},
		Containers:     []v1.Container{{Name: "a"}, {Name: "b"}},
	}}
	yes := true
	running := func(name string) v1.ContainerStatus {
		return v1.ContainerStatus{Name: name, ContainerID: "test://" + name, Started: &yes, Ready: true, State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}
	}
	ended := v1.ContainerStatus{Name: "init", ContainerID: "test://init", Ready: true, State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}}
	at := func(c v1.PodConditionType) v1.PodCondition {
		return v1.PodCondition{Type: c, Status: v1.ConditionTrue, LastTransitionTime: metav1.Time{Time: before}}
	}
	old := v1.PodStatus{
		Phase:                 v1.PodRunning,
		InitContainerStatuses: []v1.ContainerStatus{running("side"), ended},
		ContainerStatuses:     []v1.ContainerStatus{running("a"), running("b")},
		Conditions:            []v1.PodCondition{at(v1.PodInitialized), at(v1.PodReady), at(v1.ContainersReady), at(v1.PodScheduled)},
	}
	type said struct{ started, ready bool }
	for name, tc := range map[string]struct {
		said    map[string]said
		changed bool
		unready []string // containers
		since   time.Time
	}{
		"nothing is known":               {nil, false, nil, before},
		"nothing has changed":            {map[string]said{"a": {true, true}, "side": {true, true}}, false, nil, before},
		"one is not ready":               {map[string]said{"a": {true, true}, "b": {true, false}}, true, []string{"b"}, now},
		"one has not started":            {map[string]said{"b": {false, true}}, true, []string{"b"}, now},
		"a sidecar is not ready":         {map[string]said{"side": {true, false}}, true, []string{"side"}, now},
		"an init container is not asked": {map[string]said{"init": {false, false}}, false, nil, before},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t)
			m.Set(pod, old)
			told := m.Changed()
			changed := m.Refresh("u", func(id actual.ContainerID) (started, ready, ok bool) {
				s, ok := tc.said[id.ID]
				return s.started, s.ready, ok
			}, now)
			if changed != tc.changed || len(told) == 1 != tc.changed {
				t.Errorf("changed: %v, told %d times; want %v", changed, len(told), tc.changed)
			}
			got, _ := m.Get("u")
			for _, c := range append(got.ContainerStatuses, got.InitContainerStatuses...) {
				want := true
				for _, u := range tc.unready {
					want = want && c.Name != u
				}
				if c.Ready != want {
					t.Errorf("container %s: ready %v", c.Name, c.Ready)
				}
			}
			for _, kind := range []v1.PodConditionType{v1.PodReady, v1.ContainersReady} {
				c := condition(got, kind)
				if c.Status != truth(len(tc.unready) == 0) || !c.LastTransitionTime.Time.Equal(tc.since) {
					t.Errorf("%+v, want %v since %v", c, len(tc.unready) == 0, tc.since)
				}
			}
		})
	}
	if newManager(t).Refresh("u", nil, now) {
		t.Error("refreshed a status that is not there")
	}
}
