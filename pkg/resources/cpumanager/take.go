package cpumanager

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/utils/cpuset"
)

// take picks n of the available CPUs so that they are close together and break up
// as little as possible, by the kubelet's "packed" rule: first whole NUMA nodes and
// sockets, the larger kind first, then whole cores, then single threads, each time
// where the fewest CPUs are free. It is a pure function.
func (t Topology) take(available cpuset.CPUSet, n int) (cpuset.CPUSet, error) {
	if n > available.Size() {
		return cpuset.New(), fmt.Errorf("not enough cpus available to satisfy request: requested=%d, available=%d", n, available.Size())
	}
	free := available.List()
	var taken []int
	levels := t.levels()
	for _, part := range levels {
		sizes := t.sizes(part)
		left := t.packed(free, levels)
		for len(left) > 0 {
			together := 1 // CPUs of one part, next to each other
			for together < len(left) && part(t[left[together]]) == part(t[left[0]]) {
				together++
			}
			if whole := sizes[part(t[left[0]])]; together == whole && len(taken)+whole <= n {
				taken = append(taken, left[:together]...)
			}
			left = left[together:]
		}
		free = slices.DeleteFunc(free, func(cpu int) bool { return slices.Contains(taken, cpu) })
	}
	for _, cpu := range t.packed(free, levels) {
		if len(taken) < n {
			taken = append(taken, cpu)
		}
	}
	return cpuset.New(taken...), nil
}

// packed sorts free CPUs by the parts that they are in, the largest kind first:
// parts with fewer free CPUs come first, and among equals the lower numbers.
func (t Topology) packed(free []int, levels []level) []int {
	in := make([]map[int]int, len(levels)) // free CPUs in each part of a kind
	for i, part := range levels {
		in[i] = map[int]int{}
		for _, cpu := range free {
			in[i][part(t[cpu])]++
		}
	}
	return slices.SortedFunc(slices.Values(free), func(a, b int) int {
		for i, part := range levels {
			x, y := part(t[a]), part(t[b])
			if c := cmp.Or(cmp.Compare(in[i][x], in[i][y]), cmp.Compare(x, y)); c != 0 {
				return c
			}
		}
		return cmp.Compare(a, b)
	})
}
