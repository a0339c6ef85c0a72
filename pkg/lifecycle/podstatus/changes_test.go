package podstatus

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestChangesInWords(t *testing.T) {
	waiting := func(reason string) v1.ContainerStatus {
		return v1.ContainerStatus{Name: "web", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason, Message: "secret"}}}
	}
	running := v1.ContainerStatus{Name: "web", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}, Ready: true}
	ended := v1.ContainerStatus{Name: "web", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}}}
	ready := func(s v1.ConditionStatus, reason string) []v1.PodCondition {
		return []v1.PodCondition{{Type: v1.PodReady, Status: s, Reason: reason}}
	}
	many := func() (s v1.PodStatus) {
		for i := range 50 {
			c := running
			c.Name = fmt.Sprint("c", i)
			s.ContainerStatuses = append(s.ContainerStatuses, c)
		}
		return s
	}
	for _, tc := range []struct {
		old, now v1.PodStatus
		want     string
	}{
		{v1.PodStatus{}, v1.PodStatus{}, ""},
		{v1.PodStatus{}, v1.PodStatus{Phase: v1.PodPending, ContainerStatuses: []v1.ContainerStatus{waiting("ContainerCreating")}}, "phase Pending, web waiting (ContainerCreating)"},
		{
			v1.PodStatus{Phase: v1.PodPending, Conditions: ready(v1.ConditionFalse, "ContainersNotReady"), ContainerStatuses: []v1.ContainerStatus{waiting("ContainerCreating")}},
			v1.PodStatus{Phase: v1.PodRunning, Conditions: ready(v1.ConditionTrue, ""), ContainerStatuses: []v1.ContainerStatus{running}, PodIP: "10.0.0.2"},
			"phase Pending → Running, Ready False → True, web waiting (ContainerCreating) → running and ready, podIP 10.0.0.2",
		},
		{
			v1.PodStatus{Phase: v1.PodRunning, Conditions: ready(v1.ConditionTrue, ""), ContainerStatuses: []v1.ContainerStatus{running}},
			v1.PodStatus{Phase: v1.PodRunning, Conditions: ready(v1.ConditionFalse, "ContainersNotReady"), ContainerStatuses: []v1.ContainerStatus{ended}},
			"Ready True → False (ContainersNotReady), web running and ready → terminated (OOMKilled, exit 137)",
		},
	} {
		if got := Changes(tc.old, tc.now); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
	if got := Changes(v1.PodStatus{}, many()); strings.Count(got, ",") != maxChanges || !strings.HasSuffix(got, "…") {
		t.Errorf("fifty containers: %q", got)
	}
}
