package numa

import (
	"iter"
	"math/bits"

	"k8s.io/utils/cpuset"
)

// Set is a set of NUMA nodes by their numbers, bit by bit. Sets are values: they are compared with
// ==, and a & b is what both have.
type Set uint64

// MaxNodes is how many nodes a Set can tell apart: those with the numbers 0 to 63.
const MaxNodes = 64

// Of returns the set of these nodes. A number that no Set can hold is left out: Discover refuses
// machines that have such nodes.
func Of(nodes ...int) (s Set) {
	for _, n := range nodes {
		if 0 <= n && n < MaxNodes {
			s |= 1 << n
		}
	}
	return s
}

// Has reports whether the node is in the set.
func (s Set) Has(node int) bool { return s&Of(node) != 0 }

// Len is the number of nodes in the set.
func (s Set) Len() int { return bits.OnesCount64(uint64(s)) }

// Nodes returns the numbers of the nodes, the lowest first.
func (s Set) Nodes() []int {
	nodes := make([]int, 0, s.Len())
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		nodes = append(nodes, bits.TrailingZeros64(rest))
	}
	return nodes
}

// String is the set as the kernel takes it: 0-1,3.
func (s Set) String() string { return cpuset.New(s.Nodes()...).String() }

// Narrower reports whether s has fewer nodes than other, or as many and lower ones.
func (s Set) Narrower(other Set) bool {
	if a, b := s.Len(), other.Len(); a != b {
		return a < b
	}
	return s < other
}

// Subsets returns all sets of nodes in s but the empty one: 2^n-1 of them.
func (s Set) Subsets() iter.Seq[Set] {
	return func(yield func(Set) bool) {
		for sub := s & -s; sub != 0; sub = (sub - s) & s {
			if !yield(sub) {
				return
			}
		}
	}
}
