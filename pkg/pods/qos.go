package pods

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// QOSClass returns the pod's quality of service: Guaranteed when every container
// has equal requests and limits of cpu and memory, BestEffort when none has any,
// Burstable otherwise. Pod-level resources, where set, decide alone.
func QOSClass(pod *v1.Pod) v1.PodQOSClass {
	some, guaranteed := false, len(pod.Spec.Containers) > 0
	if r := pod.Spec.Resources; resource.IsPodLevelResourcesSet(pod) {
		some, guaranteed = anyComputeResource(r.Requests) || anyComputeResource(r.Limits), isGuaranteed(r)
	} else {
		for _, c := range Containers(pod) {
			some = some || anyComputeResource(c.Resources.Requests) || anyComputeResource(c.Resources.Limits)
			guaranteed = guaranteed && isGuaranteed(&c.Resources)
		}
	}
	switch {
	case !some:
		return v1.PodQOSBestEffort
	case guaranteed:
		return v1.PodQOSGuaranteed
	}
	return v1.PodQOSBurstable
}

var computeResources = []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory}

func anyComputeResource(l v1.ResourceList) bool {
	for _, name := range computeResources {
		if q, ok := l[name]; ok && q.Sign() > 0 {
			return true
		}
	}
	return false
}

func isGuaranteed(r *v1.ResourceRequirements) bool {
	for _, name := range computeResources {
		limit, ok := r.Limits[name]
		if !ok || limit.Sign() <= 0 {
			return false
		}
		if request, ok := r.Requests[name]; ok && request.Cmp(limit) != 0 {
			return false
		}
	}
	return true
}
