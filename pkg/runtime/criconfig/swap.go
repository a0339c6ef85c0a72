package criconfig

import (
	"strconv"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Swap is what the configuration says about containers' swap (memorySwap.swapBehavior), and how the
// runtime is told.
type Swap struct {
	// Total is the swap that containers share by their requests (LimitedSwap), in bytes; 0: they get
	// none.
	Total int64
	// Unified: the runtime takes files of cgroup v2. If not, it takes a limit of memory and swap together, and
	// only of containers that have a limit of memory.
	Unified bool
}

// apply adds the limit of swap to a container's resources.
func (s Swap) apply(r *cri.LinuxContainerResources, pod *v1.Pod, c *v1.Container, memory int64) {
	limit := pods.SwapLimit(pod, c, memory, s.Total)
	switch {
	case s.Unified:
		if r.Unified == nil {
			r.Unified = map[string]string{}
		}
		r.Unified["memory.swap.max"] = strconv.FormatInt(limit, 10)
	case r.MemoryLimitInBytes > 0:
		r.MemorySwapLimitInBytes = r.MemoryLimitInBytes + limit
	}
}
