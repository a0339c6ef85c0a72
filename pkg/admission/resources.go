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
// node has: it checks the number of pods first, then cpu, memory and storage, then
// the rest by name. Of a resource that the node does not offer it has none.
func resources(pod *v1.Pod, others []*v1.Pod, node Node) *pods.Rejection {
	if node.Allocatable == nil {
		return nil
	}
	if most, ok := node.Allocatable[v1.ResourcePods]; ok && int64(len(others))+1 > most.Value() {
		return outOf(v1.ResourcePods, 1, int64(len(others)), most.Value())
	}
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	used := v1.ResourceList{}
	for _, o := range others {
		for name, q := range resource.PodRequests(o, resource.PodResourcesOptions{}) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range inOrder(requests) {
		wanted, taken, most := requests[name], used[name], node.Allocatable[name]
		if wanted.IsZero() {
			continue // asks for nothing, and so fits on a full node
		}
		sum := taken.DeepCopy()
		sum.Add(wanted)
		if sum.Cmp(most) > 0 {
			return outOf(name, amount(name, wanted), amount(name, taken), amount(name, most))
		}
	}
	return nil
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

func outOf(name v1.ResourceName, requested, used, capacity int64) *pods.Rejection {
	return &pods.Rejection{Reason: "OutOf" + string(name), Message: fmt.Sprintf(
		"Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity)}
}
