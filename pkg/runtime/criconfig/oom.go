package criconfig

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// OOM scores by quality of service: the higher the score, the sooner the kernel
// kills a process.
const (
	oomGuaranteed = -997
	oomBestEffort = 1000
)

// OOMScoreAdj returns the oom_score_adj of a container on a node with that many
// bytes of memory: -997 for Guaranteed and node-critical, 1000 for BestEffort; for
// Burstable it lies between 3 and 999, and falls as the container requests a larger
// share of the node's memory. A sidecar scores no higher than the pod's main
// container with the smallest request, so that it does not die before the work it
// serves.
func OOMScoreAdj(pod *v1.Pod, c *v1.Container, memoryCapacity int64) int {
	if isNodeCritical(pod) {
		return oomGuaranteed
	}
	switch pods.QOSClass(pod) {
	case v1.PodQOSGuaranteed:
		return oomGuaranteed
	case v1.PodQOSBestEffort:
		return oomBestEffort
	}
	share := podShare(pod)
	request := c.Resources.Requests.Memory().Value() + share
	if pods.IsInit(pod, c.Name) && pods.IsSidecar(c) {
		request = max(request, minMemoryRequest(pod)+share)
	}
	if memoryCapacity <= 0 {
		return oomBestEffort - 1
	}
	return int(min(max(1000-1000*request/memoryCapacity, oomBestEffort+oomGuaranteed), oomBestEffort-1))
}

// podShare returns each container's share of what a pod-level memory request leaves
// after the containers' own requests (KEP-2837). Init containers count like all
// others.
func podShare(pod *v1.Pod) int64 {
	if pod.Spec.Resources == nil {
		return 0
	}
	total, ok := pod.Spec.Resources.Requests[v1.ResourceMemory]
	n := int64(len(pod.Spec.Containers) + len(pod.Spec.InitContainers))
	if !ok || n == 0 {
		return 0
	}
	own := resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{})
	left := total.Value() - own.Memory().Value()
	return max(left/n, 0)
}

func minMemoryRequest(pod *v1.Pod) int64 {
	var least int64
	for i := range pod.Spec.Containers {
		r := pod.Spec.Containers[i].Resources.Requests.Memory().Value()
		if i == 0 || r < least {
			least = r
		}
	}
	return least
}

func isNodeCritical(pod *v1.Pod) bool {
	return pod.Spec.PriorityClassName == "system-node-critical" && pods.IsCritical(pod)
}
