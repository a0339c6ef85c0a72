package cgroup

import (
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Values are the limits of a cgroup. Values that are nil stay as they are.
type Values struct {
	CPUShares *int64 // cgroup v1's cpu.shares; v2 gets the equivalent weight
	CPUQuota  *int64 // µs per period, -1 for no limit
	CPUPeriod *int64 // µs
	Memory    *int64 // bytes, -1 for no limit
	PIDs      *int64 // processes, -1 for no limit
	// HugePages in bytes by page size in bytes. If the map is not nil, sizes that it
	// does not name are limited to 0.
	HugePages map[int64]int64
	// Unified are files of cgroup v2 and their content.
	Unified map[string]string
}

// noLimit is written if there is no limit, so that it removes an earlier one.
const noLimit = -1

// unbounded is the kubelet's limit of huge pages for the QoS classes: none. The
// kernel rounds it down to what it can count.
const unbounded = 1 << 62

// Files of cgroup v2 that protect and throttle memory (KEP-2570).
const (
	memoryMin  = "memory.min"
	memoryLow  = "memory.low"
	memoryHigh = "memory.high"
)

// memorySwapMax is the file of cgroup v2 that limits swap (KEP-2400).
const memorySwapMax = "memory.swap.max"

// hugePages extracts the amounts of huge pages from a list.
func hugePages(list v1.ResourceList) map[int64]int64 {
	sizes := map[int64]int64{}
	for name, q := range list {
		if size, ok := pods.HugePageSize(name); ok {
			sizes[size] += q.Value()
		}
	}
	return sizes
}

// cpuWeight is cgroup v2's weight for v1's shares, by the kubelet's linear mapping
// from [2, 262144] to [1, 10000] (KEP-2254).
func cpuWeight(shares int64) uint64 {
	return uint64(1 + (min(max(shares, 2), 262144)-2)*9999/262142)
}

// forAllPods returns the limits of the cgroup of all pods: capacity less what is
// reserved. Nothing is subtracted for eviction, which should happen before the
// limit is reached. If it is not enforced, the limits are the whole capacity:
// without shares the pods would starve beside the machine's own processes.
func forAllPods(capacity v1.ResourceList, reserved []v1.ResourceList, enforce bool) Values {
	if !enforce {
		reserved = nil
	}
	left := func(name v1.ResourceName) (resource.Quantity, bool) {
		q, ok := capacity[name]
		q = q.DeepCopy()
		for _, list := range reserved {
			if r, set := list[name]; set {
				q.Sub(r)
			}
		}
		if q.Sign() < 0 {
			q = resource.Quantity{}
		}
		return q, ok
	}
	var v Values
	if q, ok := left(v1.ResourceCPU); ok {
		v.CPUShares = ref(pods.CPUShares(q.MilliValue()))
	}
	if q, ok := left(v1.ResourceMemory); ok {
		v.Memory = ref(q.Value())
	}
	if q, ok := left(resourcePIDs); ok {
		v.PIDs = ref(q.Value())
	}
	v.HugePages = hugePages(capacity)
	return v
}

// resourcePIDs is the kubelet's name for processes, as in systemReserved.
const resourcePIDs v1.ResourceName = "pid"

// forClass returns the values of a QoS class's cgroup, by the sum of its pods'
// requests. sizes are the kernel's huge page sizes.
func forClass(class v1.PodQOSClass, milliCPU int64, sizes []int64) Values {
	if class != v1.PodQOSBurstable {
		milliCPU = 0
	}
	v := Values{CPUShares: ref(pods.CPUShares(milliCPU)), HugePages: map[int64]int64{}}
	for _, s := range sizes {
		v.HugePages[s] = unbounded
	}
	return v
}

// bytesIn adds the cgroup v2 file with that many bytes of memory; files may be nil.
func bytesIn(files map[string]string, file string, bytes int64) map[string]string {
	if files == nil {
		files = map[string]string{}
	}
	files[file] = strconv.FormatInt(bytes, 10)
	return files
}

func ref[T any](v T) *T { return &v }
