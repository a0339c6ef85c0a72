package criconfig

import (
	"math"
	"os"
	"strconv"

	v1 "k8s.io/api/core/v1"
)

// MemoryQoS is what the configuration says of the memory of containers, with the
// feature MemoryQoS.
type MemoryQoS struct {
	// Reserve protects what a container requests (memoryReservationPolicy
	// TieredReservation): from all reclaim in Guaranteed pods, else as far as can be.
	Reserve bool
	// Throttling is memoryThrottlingFactor, of (0, 1].
	Throttling float64
}

// unified are the files of cgroup v2 for the container; allocatable, in bytes, stands
// in for a limit that there is not. Beyond memory.high a container is slowed down: at
//
//	floor((request + factor * (limit - request)) / page size) * page size
//
// unless it requests all that it may have, or nothing and has no limit.
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
