package criconfig

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// What the kernel's OOM killer is told, by quality of service: the higher, the
// sooner a process is killed.
const (
	oomGuaranteed = -997
	oomBestEffort = 1000
)

// OOMScoreAdj returns oom_score_adj of a container on a node with that many
// bytes of memory: Guaranteed and node-critical -997, BestEffort 1000, and
// Burstable the less, the larger the share of the node's memory it requests,
// within 3 to 999. A sidecar scores no higher than the pod's main container
// with the smallest request, so that it does not die before the work it serves.
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

// podShare is each container's part, init containers counted like all others, of
// what a pod-level memory request leaves over after the containers' own requests
// (KEP-2837).
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
