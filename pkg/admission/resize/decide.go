package resize

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// decide returns why the pod cannot have what it asks for beside the others, which
// use the node and have what they were given; nil when it can. More than the whole node has is
// infeasible, more than the node has left is deferred.
func decide(pod *v1.Pod, others []*v1.Pod, allocatable v1.ResourceList) *Pending {
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	used := v1.ResourceList{}
	for _, o := range others {
		if o.UID == pod.UID {
			continue
		}
		for name, q := range resource.PodRequests(o, resource.PodResourcesOptions{}) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	var deferred *Pending
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		wanted, taken, most := requests[name], used[name], allocatable[name]
		if wanted.Cmp(most) > 0 {
			return &Pending{v1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d",
				name, amount(name, requests), amount(name, allocatable))}
		}
		sum := wanted.DeepCopy()
		sum.Add(taken)
		if sum.Cmp(most) > 0 && deferred == nil {
			deferred = &Pending{v1.PodReasonDeferred, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
				name, amount(name, requests), amount(name, used), amount(name, allocatable))}
		}
	}
	return deferred
}

// pinned returns why a pod that has CPUs to itself may not change their number, or one whose memory
// is of certain NUMA nodes how much it is, and the metrics' word for it: nil if it may. The kubelet refuses all Guaranteed pods,
// whether they have CPUs to themselves or not (InPlacePodVerticalScalingExclusiveCPUs and
// InPlacePodVerticalScalingExclusiveMemory, off by default).
func pinned(pod, has *v1.Pod, staticCPUs, staticMemory bool) (_ *Pending, detail string) {
	if pods.QOSClass(pod) != v1.PodQOSGuaranteed {
		return nil, ""
	}
	changed := func(name v1.ResourceName) bool { return !slices.Equal(requests(pod, name), requests(has, name)) }
	switch {
	case staticCPUs && changed(v1.ResourceCPU):
		return &Pending{v1.PodReasonInfeasible, `Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"`}, detailCPUManager
	case staticMemory && changed(v1.ResourceMemory):
		return &Pending{v1.PodReasonInfeasible, `Resize is infeasible for Guaranteed Pods alongside Memory Manager policy "Static"`}, detailMemoryManager
	}
	return nil, ""
}

// requests returns the requests of all containers in their order, see amount.
func requests(pod *v1.Pod, name v1.ResourceName) []int64 {
	var list []int64
	for _, c := range pods.Containers(pod) {
		list = append(list, amount(name, c.Resources.Requests))
	}
	return list
}

// amount returns a quantity in the unit that the kubelet reports: milliCPU or
// bytes.
func amount(name v1.ResourceName, list v1.ResourceList) int64 {
	q := list[name]
	if name == v1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// beyondBounds refuses quantities that are too large to calculate with, as
// admission does.
func beyondBounds(pod *v1.Pod) (pending *Pending) {
	bounds.Quantities(pod.Spec, "spec", func(path string, err error) {
		pending = &Pending{v1.PodReasonInfeasible, path + ": " + err.Error()}
	})
	return pending
}
