package cpumanager

import (
	"maps"
	"math"
	"slices"

	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// maxSpread is how many NUMA nodes with free CPUs there may be for their combinations to be compared: there are
// 2^n of them. With more the CPUs are packed.
const maxSpread = 16

// distribute picks n of the available CPUs, in groups of threads that stay together: of one NUMA node if it has so many,
// else of as few as can give equally much each (the kubelet's distribute-cpus-across-numa, KEP-2902). What is left
// over goes to nodes of these so that the free CPUs of all nodes are as equal as possible afterwards. If
// there are no such nodes, or n is no multiple of a group, the CPUs are packed. It is a pure function.
func (t Topology) distribute(available cpuset.CPUSet, n, group int) (cpuset.CPUSet, error) {
	nodes := t.nodesInOrder(available)
	if n <= 0 || n%group != 0 || n > available.Size() || len(nodes) > maxSpread {
		return t.take(available, n)
	}
	free := t.perNode(available)
	fewest, most := t.nodesFor(n, group, len(nodes))
	for k := fewest; k <= most; k++ {
		if best := bestSpread(free, nodes, k, n, group); best != nil {
			return t.takeShares(available, best, group)
		}
	}
	return t.take(available, n)
}

// nodesInOrder lists the NUMA nodes with available CPUs, in the order in which take fills them.
func (t Topology) nodesInOrder(available cpuset.CPUSet) (nodes []int) {
	for _, cpu := range t.packed(available.List(), t.levels()) {
		if node := t[cpu].NUMA; !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// nodesFor returns how many NUMA nodes n CPUs take at least, on an empty machine, and at most.
func (t Topology) nodesFor(n, group, available int) (fewest, most int) {
	up := func(a, b int) int { return (a + b - 1) / b }
	groups, all := up(n, group), len(t.sizes(numaNode))
	return up(groups, up(up(len(t), group), all)), min(groups, available)
}

// takeShares packs into each NUMA node's share: the even part of it first, then what is left over, a group at a time.
func (t Topology) takeShares(available cpuset.CPUSet, s *spread, group int) (cpuset.CPUSet, error) {
	all := cpuset.New()
	for node, share := range s.shares {
		free := available.Intersection(t.of(numa.Of(node)))
		for n := s.even; share > 0; n = group {
			cpus, err := t.take(free, n)
			if err != nil {
				return cpuset.New(), err
			}
			all, free = all.Union(cpus), free.Difference(cpus)
			share -= n
		}
	}
	return all, nil
}

// spread is how many CPUs each NUMA node gives: an even share, and groups beyond it.
type spread struct {
	even    int
	shares  map[int]int
	unequal float64 // how unequal the nodes are afterwards
}

// bestSpread returns the best way to take n CPUs from k of the nodes; nil: there is none. Of equally good ones
// the first counts.
func bestSpread(free map[int]int, nodes []int, k, n, group int) (best *spread) {
	for combination := range combinations(nodes, k) {
		even := n / k / group * group
		groups, enough := 0, true
		for _, node := range combination {
			groups += free[node] / group
			enough = enough && free[node] >= even
		}
		if !enough || groups*group < n {
			continue
		}
		if s := spreadOver(free, combination, even, n, group); s != nil && (best == nil || s.unequal < best.unequal) {
			best = s
		}
		if best != nil && best.unequal == 0 {
			break
		}
	}
	return best
}

// spreadOver takes the even share of each node, and what is left over of n from those nodes with which all are most equal
// afterwards.
func spreadOver(free map[int]int, nodes []int, even, n, group int) (best *spread) {
	shares := map[int]int{}
	var more []int // nodes that have a group beyond the even share
	for _, node := range nodes {
		shares[node] = even
		if free[node]-even >= group {
			more = append(more, node)
		}
	}
	rest := n - even*len(nodes)
	if rest == 0 {
		return &spread{even, shares, unequal(free, shares)}
	}
	for k := len(more); k >= 1; k-- {
		for subset := range combinations(more, k) {
			if s := addRest(free, shares, subset, even, rest, group); s != nil && (best == nil || s.unequal < best.unequal) {
				best = s
			}
		}
	}
	return best
}

// addRest takes what is left over in turns from some nodes; nil: they have not so many groups.
func addRest(free, shares map[int]int, nodes []int, even, rest, group int) *spread {
	with := maps.Clone(shares)
	for rest > 0 {
		before := rest
		for _, node := range nodes {
			if rest > 0 && free[node]-with[node] >= group {
				with[node] += group
				rest -= group
			}
		}
		if rest == before {
			return nil
		}
	}
	return &spread{even, with, unequal(free, with)}
}

// unequal is the standard deviation of what is left free on the nodes, rounded as the kubelet rounds: what is equal to it
// is equal here.
func unequal(free, shares map[int]int) float64 {
	round := func(x float64) float64 { return math.Round(x*1000) / 1000 }
	sum := 0
	for node, n := range free {
		sum += n - shares[node]
	}
	mean := round(float64(sum) / float64(len(free)))
	squares := 0.0
	for node, n := range free {
		d := float64(n-shares[node]) - mean
		squares += d * d
	}
	return round(math.Sqrt(squares / float64(len(free))))
}

// combinations yields each way to choose k of the items, in their order.
func combinations(items []int, k int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		var choose func(from int, chosen []int) bool
		choose = func(from int, chosen []int) bool {
			if len(chosen) == k {
				return yield(slices.Clone(chosen))
			}
			for i := from; i <= len(items)-(k-len(chosen)); i++ {
				if !choose(i+1, append(chosen, items[i])) {
					return false
				}
			}
			return true
		}
		choose(0, make([]int, 0, k))
	}
}
