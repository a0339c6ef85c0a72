package admission

import (
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// resources rejects a pod whose requests, with those of the others, exceed what the
// node has. Of a resource that the node does not offer it has none, but extended resources that it does
// not offer are somebody else's to count, as in the kubelet.
func resources(pod *v1.Pod, others []*v1.Pod, node Node) *pods.Rejection {
	short := shortages(pod, others, node.Allocatable)
	if len(short) == 0 {
		return nil
	}
	first := short[0]
	return &pods.Rejection{Reason: "OutOf" + string(first.Resource), Short: short, Message: fmt.Sprintf(
		"Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", first.Resource, first.Requested, first.Used, first.Capacity)}
}

// shortages returns what the others do not leave to the pod: the number of pods first,
// then cpu, memory and storage, then the rest by name.
func shortages(pod *v1.Pod, others []*v1.Pod, allocatable v1.ResourceList) (short []pods.Shortage) {
	if allocatable == nil {
		return nil
	}
	if most, ok := allocatable[v1.ResourcePods]; ok && int64(len(others))+1 > most.Value() {
		short = append(short, pods.Shortage{Resource: v1.ResourcePods, Requested: 1, Used: int64(len(others)), Capacity: most.Value()})
	}
	requests := requestsOf(pod)
	used := v1.ResourceList{}
	for _, o := range others {
		for name, q := range requestsOf(o) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range inOrder(requests) {
		wanted, taken, most := requests[name], used[name], allocatable[name]
		if wanted.IsZero() {
			continue // asks for nothing, and so fits on a full node
		}
		if _, offered := allocatable[name]; !offered && pods.IsExtendedResource(name) {
			continue // a resource of the cluster, which no node has
		}
		sum := taken.DeepCopy()
		sum.Add(wanted)
		if sum.Cmp(most) > 0 {
			short = append(short, pods.Shortage{Resource: name, Requested: amount(name, wanted), Used: amount(name, taken), Capacity: amount(name, most)})
		}
	}
	return short
}

func requestsOf(pod *v1.Pod) v1.ResourceList {
	return resource.PodRequests(pod, resource.PodResourcesOptions{})
}

func inOrder(list v1.ResourceList) []v1.ResourceName {
	first := []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage}
	names := first
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if !slices.Contains(first, name) {
			names = append(names, name)
		}
	}
	return names
}

// amount returns a quantity in the unit that the kubelet reports: milliCPU, bytes,
// pieces.
func amount(name v1.ResourceName, q apiresource.Quantity) int64 {
	if name == v1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}
