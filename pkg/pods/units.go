package pods

import (
	"math"
	"os"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// Bounds of the kernel and of the kubelet's arithmetic.
const (
	MinShares = 2 // cpu.shares of a container that requests no CPU
	maxShares = 262144
	minQuota  = 1000 // microseconds, the least that CFS accepts
)

// CPUShares converts a CPU request to cpu.shares (cgroup v1; a v2 runtime converts
// it to cpu.weight).
func CPUShares(milliCPU int64) int64 {
	return min(max(milliCPU*1024/1000, MinShares), maxShares)
}

// CPUQuota converts a CPU limit to CFS quota, in microseconds of one period; 0
// means no limit.
func CPUQuota(milliCPU, period int64) int64 {
	if milliCPU <= 0 {
		return 0
	}
	return max(milliCPU*period/1000, minQuota)
}

// MemoryHigh returns the bytes of memory beyond which cgroup v2 slows processes down,
// part of the way from request to limit (KEP-2570, memoryThrottlingFactor):
//
//	floor((request + factor * (limit - request)) / page size) * page size
//
// 0 means nowhere: there is no limit, or no page between the two.
func MemoryHigh(request, limit int64, factor float64) int64 {
	page := int64(os.Getpagesize())
	high := int64(math.Floor(float64(request)+(float64(limit)-float64(request))*factor)/float64(page)) * page
	if limit <= 0 || high <= request {
		return 0
	}
	return high
}

// PageSizeName returns a huge page size as the kernel's cgroup files and CRI
// name it: "64KB", "2MB", "1GB".
func PageSizeName(bytes int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	i := 0
	for bytes >= 1024 && bytes%1024 == 0 && i < len(units)-1 {
		bytes /= 1024
		i++
	}
	return strconv.FormatInt(bytes, 10) + units[i]
}

// HugePageSize returns the page size, in bytes, of a resource name for huge pages
// ("hugepages-2Mi"); ok is false for any other name and for an invalid size.
func HugePageSize(name v1.ResourceName) (bytes int64, ok bool) {
	text, ok := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix)
	if !ok {
		return 0, false
	}
	q, err := bounds.ParseQuantity(text)
	if err != nil || q.Value() <= 0 {
		return 0, false
	}
	return q.Value(), true
}

// IsHugePages reports whether a resource name is for huge pages, of whatever size.
func IsHugePages(name v1.ResourceName) bool {
	return strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix)
}

// IsExtendedResource reports whether a name is that of an extended resource: one with a domain that is
// not Kubernetes' own.
func IsExtendedResource(name v1.ResourceName) bool {
	text := string(name)
	if !strings.Contains(text, "/") || strings.Contains(text, v1.ResourceDefaultNamespacePrefix) || strings.HasPrefix(text, v1.DefaultResourceRequestsPrefix) {
		return false
	}
	// Quotas have to be able to name it.
	return len(validation.IsQualifiedName(v1.DefaultResourceRequestsPrefix+text)) == 0
}
