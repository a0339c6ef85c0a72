package criconfig

import (
	"math"
	"os"
	"strconv"

	v1 "k8s.io/api/core/v1"
)

// MemoryQoS is what the configuration says about containers' memory, with the
// feature MemoryQoS.
type MemoryQoS struct {
	// Reserve protects what a container requests (memoryReservationPolicy
	// TieredReservation): from all reclaim in Guaranteed pods, in others as far as
	// possible.
	Reserve bool
	// Throttling is memoryThrottlingFactor, in (0, 1].
	Throttling float64
}

// unified returns the cgroup v2 files for the container; allocatable, in bytes,
// replaces a missing limit. Beyond memory.high a container is slowed down, which is
// at
//
//	floor((request + factor * (limit - request)) / page size) * page size
//
// unless it requests its whole limit, or has neither request nor limit.
func (q *MemoryQoS) unified(c *v1.Container, class v1.PodQOSClass, allocatable int64) map[string]string {
	request, limit := c.Resources.Requests.Memory().Value(), c.Resources.Limits.Memory().Value()
	bytes := func(n int64) string { return strconv.FormatInt(n, 10) }
	files := map[string]string{}
	switch {
	case request == 0 || !q.Reserve:
		files["memory.min"], files["memory.low"] = "0", "0"
	case class == v1.PodQOSGuaranteed:
		files["memory.min"] = bytes(request)
	default:
		files["memory.low"] = bytes(request)
	}
	if request == limit {
		return files
	}
	most := limit
	if most == 0 {
		most = allocatable
	}
	page := int64(os.Getpagesize())
	high := int64(math.Floor(float64(request)+(float64(most)-float64(request))*q.Throttling)/float64(page)) * page
	if most > 0 && high > request {
		files["memory.high"] = bytes(high)
	}
	return files
}
