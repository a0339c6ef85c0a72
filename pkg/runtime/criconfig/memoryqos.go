package criconfig

import (
	"strconv"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// MemoryQoS is what the configuration says about containers' memory, with the
// feature MemoryQoS.
type MemoryQoS struct {
	// Off: the feature is switched off. memory.high of a container that was created while it was on goes
	// back to "max" with its next resize, and the rest of its protection stays (kubelet behaviour).
	Off bool
	// Reserve protects what a container requests (memoryReservationPolicy
	// TieredReservation): from all reclaim in Guaranteed pods, in others as far as
	// possible.
	Reserve bool
	// Throttling is memoryThrottlingFactor, in (0, 1]; nil: memory.high is not set.
	Throttling *float64
}

// unified returns the cgroup v2 files for a container of the pod; allocatable, in bytes,
// replaces a missing limit. Beyond memory.high a container is slowed down, unless it
// requests its whole limit, or only the pod as a whole has one, whose cgroup does that.
func (q *MemoryQoS) unified(pod *v1.Pod, c *v1.Container, allocatable int64) map[string]string {
	if q.Off {
		return map[string]string{"memory.high": "max"}
	}
	request, limit := c.Resources.Requests.Memory().Value(), c.Resources.Limits.Memory().Value()
	bytes := func(n int64) string { return strconv.FormatInt(n, 10) }
	files := map[string]string{}
	switch {
	case request == 0 || !q.Reserve:
		files["memory.min"], files["memory.low"] = "0", "0"
	case pods.QOSClass(pod) == v1.PodQOSGuaranteed:
		files["memory.min"] = bytes(request)
	default:
		files["memory.low"] = bytes(request)
	}
	ofPod := limit == 0 && pod.Spec.Resources != nil && !pod.Spec.Resources.Limits.Memory().IsZero()
	if q.Throttling == nil || ofPod || request == limit && request != 0 {
		return files
	}
	most := limit
	if most == 0 {
		most = allocatable
	}
	if high := pods.MemoryHigh(request, most, *q.Throttling); high > 0 {
		files["memory.high"] = bytes(high)
	}
	return files
}
