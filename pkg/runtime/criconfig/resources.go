package criconfig

import (
	"sort"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// defaultPeriod of CFS, in microseconds.
const defaultPeriod = 100000

func (n NodeConfig) cfsPeriod() int64 {
	if p := n.CFSQuotaPeriod.Microseconds(); p > 0 {
		return p
	}
	return defaultPeriod
}

// linuxResources applies requests and limits as cgroup values, without
// oom_score_adj. A limit without a request is also the request.
func linuxResources(requests, limits v1.ResourceList, node NodeConfig) *cri.LinuxContainerResources {
	r := &cri.LinuxContainerResources{MemoryLimitInBytes: limits.Memory().Value()}
	request, limit := requests.Cpu(), limits.Cpu()
	if _, set := requests[v1.ResourceCPU]; !set && !limit.IsZero() {
		request = limit
	}
	r.CpuShares = pods.CPUShares(request.MilliValue())
	if !node.DisableCFSQuota {
		r.CpuPeriod = node.cfsPeriod()
		r.CpuQuota = pods.CPUQuota(limit.MilliValue(), r.CpuPeriod)
	}
	if !node.NoHugePageLimits {
		r.HugepageLimits = hugepageLimits(limits, node.HugePageSizes)
	}
	return r
}

// Resources returns the cgroup values of one container of the pod, for its creation
// and for a resize.
func Resources(pod *v1.Pod, c *v1.Container, node NodeConfig) *cri.LinuxContainerResources {
	limits := c.Resources.Limits
	if p := pod.Spec.Resources; p != nil {
		limits = withPodLimits(limits, p.Limits)
	}
	r := linuxResources(c.Resources.Requests, limits, node)
	r.OomScoreAdj = int64(OOMScoreAdj(pod, c, node.MemoryCapacity))
	if q := node.MemoryQoS; q != nil {
		allocatable := node.allocatable()
		r.Unified = q.unified(pod, c, allocatable.Memory().Value())
	}
	if node.Swap != nil {
		node.Swap.apply(r, pod, c, node.MemoryCapacity)
	}
	if node.KillTogether {
		if r.Unified == nil {
			r.Unified = map[string]string{}
		}
		r.Unified["memory.oom.group"] = "1"
	}
	if node.CPUs != nil {
		var exclusive bool
		if r.CpusetCpus, exclusive = node.CPUs(pod.UID, c.Name); exclusive {
			dropQuota(r)
		}
	}
	if node.MemoryNodes != nil {
		r.CpusetMems = node.MemoryNodes(pod.UID, c.Name)
	}
	return r
}

// dropQuota removes the CPU quota, if one would be enforced.
func dropQuota(r *cri.LinuxContainerResources) {
	if r.CpuPeriod > 0 {
		r.CpuQuota = -1
	}
}

// ExclusiveCPUs reports whether any container of the pod has CPUs to itself.
func (n NodeConfig) ExclusiveCPUs(pod *v1.Pod) bool {
	if n.CPUs == nil {
		return false
	}
	for _, c := range pods.Containers(pod) {
		if _, exclusive := n.CPUs(pod.UID, c.Name); exclusive {
			return true
		}
	}
	return false
}

// withPodLimits applies the pod's own limits to a container that has none.
func withPodLimits(limits, pod v1.ResourceList) v1.ResourceList {
	merged := v1.ResourceList{}
	for name, q := range pod {
		if name == v1.ResourceCPU || name == v1.ResourceMemory || pods.IsHugePages(name) {
			merged[name] = q
		}
	}
	for name, q := range limits {
		merged[name] = q
	}
	return merged
}

// sandboxResources returns what the whole pod may use, so that the runtime can size
// a virtual machine or its own cgroup; nil when the pod asks for nothing.
func sandboxResources(requests, limits v1.ResourceList, node NodeConfig) *cri.LinuxContainerResources {
	if len(requests) == 0 && len(limits) == 0 {
		return &cri.LinuxContainerResources{}
	}
	r := linuxResources(requests, limits, node)
	r.HugepageLimits = nil
	return r
}

// hugepageLimits returns a limit for each page size of the node, 0 when the
// container sets none, ordered by size name.
func hugepageLimits(limits v1.ResourceList, nodeSizes []string) []*cri.HugepageLimit {
	bySize := map[string]uint64{}
	for _, s := range nodeSizes {
		bySize[s] = 0
	}
	for name, q := range limits {
		if size, ok := pods.HugePageSize(name); ok {
			bySize[pods.PageSizeName(size)] = uint64(q.Value())
		}
	}
	if len(bySize) == 0 {
		return nil
	}
	all := make([]*cri.HugepageLimit, 0, len(bySize))
	for s, limit := range bySize {
		all = append(all, &cri.HugepageLimit{PageSize: s, Limit: limit})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].PageSize < all[j].PageSize })
	return all
}
