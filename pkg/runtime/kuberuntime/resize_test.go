package kuberuntime

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

func TestResizeOf(t *testing.T) {
	limits := func(shares, quota, memory int64) *cri.LinuxContainerResources {
		return &cri.LinuxContainerResources{CpuShares: shares, CpuQuota: quota, CpuPeriod: 100000, MemoryLimitInBytes: memory}
	}
	restart := func(name v1.ResourceName) []v1.ContainerResizePolicy {
		return []v1.ContainerResizePolicy{{ResourceName: name, RestartPolicy: v1.RestartContainer}}
	}
	unlimited := &cri.LinuxContainerResources{CpuShares: 2, CpuQuota: -1, MemoryLimitInBytes: -1}
	for name, tt := range map[string]struct {
		has, wanted     *cri.LinuxContainerResources
		policy          []v1.ContainerResizePolicy
		resize, restart bool
	}{
		"the same":                           {limits(512, 50000, 1<<20), limits(512, 50000, 1<<20), restart("cpu"), false, false},
		"no limit in other words":            {unlimited, limits(2, 0, 0), nil, false, false},
		"more CPU":                           {limits(512, 50000, 1<<20), limits(1024, 100000, 1<<20), nil, true, false},
		"another period":                     {&cri.LinuxContainerResources{CpuShares: 2, CpuQuota: 50000}, &cri.LinuxContainerResources{CpuShares: 2, CpuQuota: 50000, CpuPeriod: 50000}, nil, true, false},
		"less memory":                        {limits(512, 50000, 2<<20), limits(512, 50000, 1<<20), nil, true, false},
		"memory restarts":                    {limits(512, 50000, 1<<20), limits(512, 50000, 2<<20), restart("memory"), true, true},
		"CPU does not restart, memory would": {limits(512, 50000, 1<<20), limits(512, 60000, 1<<20), restart("memory"), true, false},
		"a runtime that says nothing":        {nil, limits(512, 50000, 1<<20), nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			now := &actual.ContainerStatus{Resources: &cri.ContainerResources{Linux: tt.has}}
			r, again := resizeOf(&v1.Container{ResizePolicy: tt.policy}, now, tt.wanted)
			if (r != nil) != tt.resize || again != tt.restart {
				t.Errorf("resize %v, restart %v; want %v, %v", r != nil, again, tt.resize, tt.restart)
			}
		})
	}
}
