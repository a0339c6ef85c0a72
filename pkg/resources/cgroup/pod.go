package cgroup

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// PodSettings are the configured settings for the limits of pods.
type PodSettings struct {
	CFSQuota  bool          // cpuCFSQuota: enforce CPU limits
	CFSPeriod time.Duration // cpuCFSQuotaPeriod; 0 is 100 ms
	PIDs      int64         // podPidsLimit; 0 or less: none
	// ExclusiveCPUs reports whether a container of the pod has CPUs to itself, so that
	// no quota is enforced for the pod; nil: none has.
	ExclusiveCPUs func(*v1.Pod) bool
	// ReserveMemory protects what pods request (cgroup v2, MemoryQoS with
	// memoryReservationPolicy TieredReservation).
	ReserveMemory bool
	// MemoryThrottling is memoryThrottlingFactor, in (0, 1]: memory.high of pods with
	// resources of their own (cgroup v2, MemoryQoS); nil: it is not set.
	MemoryThrottling *float64
	// Swap returns how many bytes of swap the containers of a pod may use together (cgroup v2): the limit for
	// those that the runtime cannot limit one by one; nil: it is not limited.
	Swap func(*v1.Pod) int64
}

// ForPod returns the limits of the pod's cgroup: requests and limits of the pod as
// a whole, with overhead, init containers and sidecars counted as the scheduler
// counts them (the kubelet's ResourceConfigForPod). CPU and memory are limited only
// if every container is, or the pod as a whole.
func ForPod(pod *v1.Pod, s PodSettings) Values {
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	allCPU, allMemory := true, true
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{})
	for _, c := range pods.Containers(pod) {
		allCPU = allCPU && !c.Resources.Limits.Cpu().IsZero()
		allMemory = allMemory && !c.Resources.Limits.Memory().IsZero()
	}
	if r := pod.Spec.Resources; r != nil {
		allCPU = allCPU || !r.Limits.Cpu().IsZero()
		allMemory = allMemory || !r.Limits.Memory().IsZero()
	}
	class := pods.QOSClass(pod)
	if class == v1.PodQOSBestEffort {
		// Overhead alone limits nothing.
		requests, allCPU, allMemory = v1.ResourceList{}, false, false
	}
	v := Values{
		CPUShares: ref(pods.CPUShares(requests.Cpu().MilliValue())),
		CPUPeriod: ref(s.period()), CPUQuota: ref[int64](noLimit), Memory: ref[int64](noLimit), PIDs: ref[int64](noLimit),
		HugePages: hugePages(resource.PodRequests(pod, resource.PodResourcesOptions{})),
	}
	if quota := pods.CPUQuota(limits.Cpu().MilliValue(), *v.CPUPeriod); allCPU && s.quotaFor(pod) && quota > 0 {
		v.CPUQuota = &quota
	}
	if memory := limits.Memory().Value(); allMemory && memory > 0 {
		v.Memory = &memory
	}
	if s.PIDs > 0 {
		v.PIDs = &s.PIDs
	}
	if memory := requests.Memory().Value(); s.ReserveMemory && memory > 0 {
		v.Unified = bytesIn(nil, memoryProtection(class), memory)
	}
	if f := s.MemoryThrottling; f != nil && allMemory && resource.IsPodLevelResourcesSet(pod) {
		request, limit := requests.Memory().Value(), limits.Memory().Value()
		if high := pods.MemoryHigh(request, limit, *f); request != limit && high > 0 {
			v.Unified = bytesIn(v.Unified, memoryHigh, high)
		}
	}
	if s.Swap != nil {
		v.Unified = bytesIn(v.Unified, memorySwapMax, s.Swap(pod))
	}
	return v
}

// memoryProtection is the file of cgroup v2 that protects the memory of a pod in
// that class: hard for Guaranteed pods, soft for the others (KEP-2570).
func memoryProtection(class v1.PodQOSClass) string {
	if class == v1.PodQOSGuaranteed {
		return memoryMin
	}
	return memoryLow
}

func (s PodSettings) quotaFor(pod *v1.Pod) bool {
	return s.CFSQuota && (s.ExclusiveCPUs == nil || !s.ExclusiveCPUs(pod))
}

func (s PodSettings) period() int64 {
	if p := s.CFSPeriod.Microseconds(); p > 0 {
		return p
	}
	return 100_000
}
