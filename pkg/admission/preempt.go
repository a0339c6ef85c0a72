package admission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Victims chooses the pods that end so that a critical pod gets what it is short of, as the
// kubelet does: no Guaranteed pod for which others of lower classes would do, no Burstable one for which
// BestEffort ones would do; within a class few pods, and small ones. Only pods that give way to the
// pod are chosen. The error says what cannot be had even by ending all of them.
func Victims(pod *v1.Pod, others []*v1.Pod, short []pods.Shortage) ([]*v1.Pod, error) {
	need := needs{}
	for _, s := range short {
		need[s.Resource] = s.Missing()
	}
	classes := map[v1.PodQOSClass][]*v1.Pod{}
	for _, o := range others {
		if givesWay(o, pod) {
			class := pods.QOSClass(o)
			classes[class] = append(classes[class], o)
		}
	}
	low, middle, high := classes[v1.PodQOSBestEffort], classes[v1.PodQOSBurstable], classes[v1.PodQOSGuaranteed]
	if left := need.without(low, middle, high); len(left) > 0 {
		return nil, fmt.Errorf("no set of running pods found to reclaim resources: %v", left)
	}
	// Each class gives what those below it, all together, cannot give, beside what was
	// already chosen above it.
	high = need.without(low, middle).choose(high)
	middle = need.without(low, high).choose(middle)
	low = need.without(middle, high).choose(low)
	return slices.Concat(low, middle, high), nil
}

// givesWay reports whether a pod may be ended for a critical one: any that is not critical, and a critical
// one of lower priority.
func givesWay(other, pod *v1.Pod) bool {
	if !pods.IsCritical(pod) {
		return false
	}
	if !pods.IsCritical(other) {
		return true
	}
	return pod.Spec.Priority != nil && other.Spec.Priority != nil && *pod.Spec.Priority > *other.Spec.Priority
}

// needs are amounts of resources, all of them positive.
type needs map[v1.ResourceName]int64

// gives is what the end of a pod gives back of a resource.
func gives(pod *v1.Pod, name v1.ResourceName) int64 {
	if name == v1.ResourcePods {
		return 1
	}
	return amount(name, requestsOf(pod)[name])
}

// without returns what is still needed once all these pods have ended.
func (n needs) without(lists ...[]*v1.Pod) needs {
	left := needs{}
	for name, amount := range n {
		for _, pod := range slices.Concat(lists...) {
			amount -= gives(pod, name)
		}
		if amount > 0 {
			left[name] = amount
		}
	}
	return left
}

// choose takes pods until nothing is needed any more: each time the one after which the least is
// needed, each resource by its share, and of several the one that requests less. The pods together give enough.
func (n needs) choose(from []*v1.Pod) (chosen []*v1.Pod) {
	from = slices.Clone(from)
	slices.SortStableFunc(from, func(a, b *v1.Pod) int { // of equal ones the youngest
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	for left := n; len(left) > 0 && len(from) > 0; {
		best := 0
		for i := range from {
			if cmp.Or(cmp.Compare(left.distance(from[i]), left.distance(from[best])), bySize(from[i], from[best])) < 0 {
				best = i
			}
		}
		chosen = append(chosen, from[best])
		left = left.without(from[best : best+1])
		from = slices.Delete(from, best, best+1)
	}
	return chosen
}

// distance is how much would still be needed after the pod's end: the sum of the squares of the shares that
// are missing.
func (n needs) distance(pod *v1.Pod) (sum float64) {
	for _, name := range slices.Sorted(maps.Keys(n)) { // in order: equal pods are equally far
		if missing := n[name] - gives(pod, name); missing > 0 {
			share := float64(missing) / float64(n[name])
			sum += share * share
		}
	}
	return sum
}

func bySize(a, b *v1.Pod) int {
	return cmp.Or(cmp.Compare(gives(a, v1.ResourceMemory), gives(b, v1.ResourceMemory)), cmp.Compare(gives(a, v1.ResourceCPU), gives(b, v1.ResourceCPU)))
}

// String lists the needs in the kubelet's words.
func (n needs) String() string {
	var out strings.Builder
	out.WriteString("[")
	for _, name := range slices.Sorted(maps.Keys(n)) {
		fmt.Fprintf(&out, "(res: %s, q: %d), ", name, n[name])
	}
	return out.String() + "]"
}
