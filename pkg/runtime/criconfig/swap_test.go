package criconfig

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestSwapOfContainers(t *testing.T) {
	limited := v1.Container{Name: "limited", Resources: v1.ResourceRequirements{Requests: list("", "256Mi"), Limits: list("", "512Mi")}}
	open := v1.Container{Name: "open", Resources: v1.ResourceRequirements{Requests: list("", "512Mi")}}
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{limited, open}}}
	for name, tt := range map[string]struct {
		swap                 *Swap
		unified              [2]string // memory.swap.max of the two
		limitedBoth, openAll int64     // memory and swap
	}{
		"not said":                   {nil, [2]string{}, 0, 0},
		"none":                       {&Swap{Unified: true}, [2]string{"0", "0"}, 0, 0},
		"none, with another runtime": {&Swap{}, [2]string{}, 512 << 20, 0},
		"some":                       {&Swap{Unified: true, Total: 400 << 20}, [2]string{"104857600", "209715200"}, 0, 0},
		"some, with another runtime": {&Swap{Total: 400 << 20}, [2]string{}, 612 << 20, 0},
	} {
		n := NodeConfig{MemoryCapacity: 1 << 30, Swap: tt.swap}
		a, b := Resources(pod, &pod.Spec.Containers[0], n), Resources(pod, &pod.Spec.Containers[1], n)
		if got := [2]string{a.Unified["memory.swap.max"], b.Unified["memory.swap.max"]}; got != tt.unified {
			t.Errorf("%s: memory.swap.max %q, want %q", name, got, tt.unified)
		}
		if a.MemorySwapLimitInBytes != tt.limitedBoth || b.MemorySwapLimitInBytes != tt.openAll {
			t.Errorf("%s: memory and swap %d and %d, want %d and %d", name, a.MemorySwapLimitInBytes, b.MemorySwapLimitInBytes, tt.limitedBoth, tt.openAll)
		}
	}
}
