package shutdown

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Period is how long pods of a priority, and of those up to the next Period's, have to end.
type Period struct {
	Priority int32
	Grace    time.Duration // in whole seconds
}

// Periods returns what the configuration asks for (shutdownGracePeriodByPodPriority, or
// shutdownGracePeriod and shutdownGracePeriodCriticalPods), lowest priority first; none
// means that a shutdown waits for nobody.
func Periods(byPriority []kubeletconfig.ShutdownGracePeriodByPodPriority, total, critical time.Duration) []Period {
	var list []Period
	for _, p := range byPriority {
		list = append(list, Period{p.Priority, time.Duration(p.ShutdownGracePeriodSeconds) * time.Second})
	}
	if len(list) == 0 && total > 0 {
		list = []Period{{0, (total - critical).Truncate(time.Second)}, {pods.SystemCriticalPriority, critical.Truncate(time.Second)}}
	}
	slices.SortStableFunc(list, func(a, b Period) int { return cmp.Compare(a.Priority, b.Priority) })
	return list
}

// total is how long a shutdown may take.
func total(periods []Period) time.Duration {
	var sum time.Duration
	for _, p := range periods {
		sum += p.Grace
	}
	return sum
}

// group is pods that end together.
type group struct {
	Period
	pods []*v1.Pod
}

// groups divides pods among the periods, lowest priority first, and leaves out groups
// without pods. A pod belongs to the highest period that is not above its priority, and
// below all of them to the lowest. Pure.
func groups(periods []Period, list []*v1.Pod) []group {
	if len(periods) == 0 {
		return nil
	}
	all := make([]group, len(periods))
	for i, p := range periods {
		all[i].Period = p
	}
	for _, pod := range list {
		priority := int32(0)
		if pod.Spec.Priority != nil {
			priority = *pod.Spec.Priority
		}
		i := len(periods) - 1
		for i > 0 && periods[i].Priority > priority {
			i--
		}
		all[i].pods = append(all[i].pods, pod)
	}
	return slices.DeleteFunc(all, func(g group) bool { return len(g.pods) == 0 })
}

// grace returns how many seconds the pod has: its own grace period, if that is shorter than
// the group's.
func (g group) grace(pod *v1.Pod) int64 {
	most := int64(g.Grace / time.Second)
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
		return min(*own, most)
	}
	return most
}
