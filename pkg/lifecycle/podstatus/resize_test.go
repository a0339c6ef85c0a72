package podstatus

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestConditionsOfAResizeComeAndGo(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
	pod.Generation = 7
	s := Generate(Input{Pod: pod, Resize: Resize{Pending: v1.PodReasonDeferred, PendingMessage: "no room", InProgress: true, Error: "busy"}})
	p, r := condition(s, v1.PodResizePending), condition(s, v1.PodResizeInProgress)
	if p == nil || p.Reason != "Deferred" || p.Message != "no room" || p.Status != v1.ConditionTrue || p.ObservedGeneration != 7 {
		t.Errorf("pending: %+v", p)
	}
	if r == nil || r.Reason != v1.PodReasonError || r.Message != "busy" {
		t.Errorf("in progress: %+v", r)
	}
	after := Generate(Input{Pod: pod, Old: s})
	if condition(after, v1.PodResizePending) != nil || condition(after, v1.PodResizeInProgress) != nil {
		t.Errorf("afterwards: %+v", after.Conditions)
	}
	merged := Merge(pod, s, after)
	if condition(merged, v1.PodResizePending) != nil || condition(merged, v1.PodResizeInProgress) != nil {
		t.Errorf("at the API server: %+v", merged.Conditions)
	}
}

func TestActualResources(t *testing.T) {
	list := func(cpu, memory string) v1.ResourceList {
		return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
	}
	given := v1.Container{Resources: v1.ResourceRequirements{Requests: list("300m", "1Mi"), Limits: list("500m", "8Mi")}}
	for name, tt := range map[string]struct {
		now                    *cri.LinuxContainerResources
		request, limit, memory string
	}{
		"as given":              {&cri.LinuxContainerResources{CpuShares: 307, CpuQuota: 50000, CpuPeriod: 100000, MemoryLimitInBytes: 8 << 20}, "300m", "500m", "8Mi"},
		"not yet as given":      {&cri.LinuxContainerResources{CpuShares: 102, CpuQuota: 20000, CpuPeriod: 100000, MemoryLimitInBytes: 4 << 20}, "100m", "200m", "4Mi"},
		"the runtime is silent": {nil, "300m", "500m", "8Mi"},
	} {
		r := resourcesOf(given, tt.now)
		if r.Requests.Cpu().String() != tt.request || r.Limits.Cpu().String() != tt.limit || r.Limits.Memory().String() != tt.memory {
			t.Errorf("%s: %v", name, r)
		}
	}
	if given.Resources.Limits.Cpu().String() != "500m" {
		t.Error("what was given has been changed")
	}
}
