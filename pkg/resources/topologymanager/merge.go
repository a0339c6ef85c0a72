package topologymanager

import (
	"slices"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// Hint is one answer to the question from which NUMA nodes a request could be served.
type Hint struct {
	Nodes numa.Set // empty: from any
	// Preferred is true if no smaller set could serve the request, were the machine empty.
	Preferred bool
}

// Hints are a provider's by resource. No hints for a resource, nil, mean that nodes do not matter;
// an empty list, that no nodes can serve the request.
type Hints map[string][]Hint

// impossible and indifferent are what stands for no hints.
var (
	impossible  = []Hint{{}}
	indifferent = []Hint{{Preferred: true}}
)

// The names of the policies.
const (
	None           = "none"
	BestEffort     = "best-effort"
	Restricted     = "restricted"
	SingleNUMANode = "single-numa-node"
)

// policy is what does not change while the agent runs.
type policy struct {
	name  string
	nodes numa.Nodes
	// closest prefers, among sets of equally many nodes, those near each other
	// (prefer-closest-numa-nodes).
	closest bool
}

// merge finds the nodes that suit the hints of all resources best, and says whether the policy
// takes a pod that is to run there. It is a pure function.
func (p policy) merge(providers []Hints) (best Hint, ok bool) {
	var resources [][]Hint
	for _, hints := range providers {
		for _, list := range hints {
			switch {
			case list == nil:
				list = indifferent
			case len(list) == 0:
				list = impossible
			}
			if p.name == SingleNUMANode {
				list = slices.DeleteFunc(slices.Clone(list), func(h Hint) bool { return !h.Preferred || h.Nodes.Len() > 1 })
			}
			resources = append(resources, list)
		}
	}
	best = p.best(combine(p.nodes.All(), resources), mostNeeded(resources))
	if p.name == SingleNUMANode && best.Nodes == p.nodes.All() {
		best.Nodes = 0 // nobody has a preference
	}
	return best, p.name == BestEffort || best.Preferred
}

// combine returns all nodes that remain if of each resource one hint is taken and only the nodes
// that are in all of these. The result is preferred if all of them are, and equal. The kubelet goes
// through all combinations, whose number is exponential in the number of resources; here those with
// the same nodes so far are one, as nothing else of them matters.
func combine(all numa.Set, resources [][]Hint) map[Hint]bool {
	type partial struct {
		Hint
		free bool // no hint yet has named nodes
	}
	reached := map[partial]bool{{Hint{all, true}, true}: true}
	for _, hints := range resources {
		next := map[partial]bool{}
		for r := range reached {
			for _, h := range hints {
				n := r
				n.Preferred = r.Preferred && h.Preferred
				if h.Nodes != 0 {
					n.Preferred = n.Preferred && (r.free || r.Nodes == h.Nodes)
					n.Nodes, n.free = r.Nodes&h.Nodes, false
				}
				if n.Nodes != 0 {
					next[n] = true
				}
			}
		}
		reached = next
	}
	results := map[Hint]bool{}
	for r := range reached {
		results[r.Hint] = true
	}
	return results
}

// mostNeeded is how many nodes the resource needs that needs most of them, each served by its
// smallest set.
func mostNeeded(resources [][]Hint) int {
	most := 0
	for _, hints := range resources {
		least := 0
		for _, h := range hints {
			if n := h.Nodes.Len(); n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		most = max(most, least)
	}
	return most
}

// best chooses among what hints come to: a preferred one with the fewest nodes, or else one with as
// many as the most demanding resource needs, fewer if that cannot be, and more only if that cannot be
// either. If there is none, it is all nodes, not preferred.
func (p policy) best(results map[Hint]bool, needed int) Hint {
	beyond := func(h Hint) int { // how far from what is wanted
		n := h.Nodes.Len()
		if !h.Preferred && n <= needed {
			return needed - n
		}
		return n
	}
	best := Hint{}
	for h := range results {
		switch {
		case best.Nodes == 0:
			best = h
		case h.Preferred != best.Preferred:
			if h.Preferred {
				best = h
			}
		case beyond(h) != beyond(best):
			if beyond(h) < beyond(best) {
				best = h
			}
		case p.fitter(h.Nodes, best.Nodes):
			best = h
		}
	}
	if best.Nodes == 0 {
		return Hint{Nodes: p.nodes.All()}
	}
	return best
}

// fitter decides between two sets of equally many nodes: by distance if that is asked for, then by
// number.
func (p policy) fitter(a, b numa.Set) bool {
	if p.closest {
		if x, y := p.distance(a), p.distance(b); x != y {
			return x < y
		}
	}
	return a.Narrower(b)
}

// distance is the sum of the distances of all pairs of nodes in a set. Sets of equally many nodes
// compare by it as by the average.
func (p policy) distance(s numa.Set) (sum int) {
	for _, n := range p.nodes {
		if !s.Has(n.ID) {
			continue
		}
		for to, distance := range n.Distances {
			if s.Has(to) {
				sum += distance
			}
		}
	}
	return sum
}
