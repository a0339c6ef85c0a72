package convert

import (
	"strconv"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// Resources converts cgroup values. A memory limit without a swap limit means no swap;
// Docker's own default would be as much swap as memory. An error names a part of field, which
// is the path of r in the request.
func (p Platform) Resources(field string, r *cri.LinuxContainerResources) (container.Resources, error) {
	var out container.Resources
	if r == nil {
		return out, nil
	}
	out.CPUPeriod, out.CPUQuota, out.CPUShares = r.CpuPeriod, r.CpuQuota, r.CpuShares
	out.CpusetCpus, out.CpusetMems = r.CpusetCpus, r.CpusetMems
	out.Memory, out.MemorySwap = r.MemoryLimitInBytes, r.MemorySwapLimitInBytes
	if out.Memory > 0 && out.MemorySwap == 0 {
		out.MemorySwap = out.Memory
	}
	if out.Memory > 0 && out.Memory < minMemory {
		return out, grpccode.Invalid(field+".memory_limit_in_bytes", "%d is less than Docker's minimum of %d", out.Memory, minMemory)
	}
	for _, h := range r.HugepageLimits {
		if h.GetLimit() != 0 {
			return out, grpccode.Invalid(field+".hugepage_limits", "docker cannot limit huge pages")
		}
	}
	for key, value := range r.Unified {
		if key != "pids.max" {
			return out, grpccode.Invalid(field+".unified", "docker cannot set %q", key)
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if value == "max" {
			n, err = -1, nil
		}
		if err != nil {
			return out, grpccode.Invalid(field+".unified", "pids.max: %q is no number", value)
		}
		out.PidsLimit = &n
	}
	return out, nil
}

// criResources converts the limits of a container back.
func criResources(host *container.HostConfig) *cri.ContainerResources {
	if host == nil {
		return nil
	}
	r := &cri.LinuxContainerResources{
		CpuPeriod: host.CPUPeriod, CpuQuota: host.CPUQuota, CpuShares: host.CPUShares,
		CpusetCpus: host.CpusetCpus, CpusetMems: host.CpusetMems,
		MemoryLimitInBytes: host.Memory, MemorySwapLimitInBytes: host.MemorySwap, OomScoreAdj: int64(host.OomScoreAdj),
	}
	if host.PidsLimit != nil && *host.PidsLimit != 0 {
		value := "max"
		if *host.PidsLimit > 0 {
			value = strconv.FormatInt(*host.PidsLimit, 10)
		}
		r.Unified = map[string]string{"pids.max": value}
	}
	return &cri.ContainerResources{Linux: r}
}
