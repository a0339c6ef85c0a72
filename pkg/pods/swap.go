package pods

import v1 "k8s.io/api/core/v1"

// SwapLimit is how many bytes of swap a container may use where the node gives pods some (swapBehavior
// LimitedSwap, KEP-2400): as much of the machine's swap as it requests of its memory. Critical pods,
// those that are not Burstable, and containers that request no memory or all that they may have get
// none.
func SwapLimit(pod *v1.Pod, c *v1.Container, memory, swap int64) int64 {
	request, limit := c.Resources.Requests.Memory(), c.Resources.Limits.Memory()
	if IsCritical(pod) || QOSClass(pod) != v1.PodQOSBurstable || request.IsZero() || request.Cmp(*limit) == 0 {
		return 0
	}
	if memory <= 0 || request.Value() > memory {
		return 0
	}
	return int64(float64(request.Value()) / float64(memory) * float64(swap))
}

// SwapLimitOfAll is what the containers of a pod may use together.
func SwapLimitOfAll(pod *v1.Pod, memory, swap int64) (sum int64) {
	for _, c := range Containers(pod) {
		sum += SwapLimit(pod, c, memory, swap)
	}
	return min(sum, swap)
}
