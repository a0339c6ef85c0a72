package topologymanager

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// nodes are n NUMA nodes in a row: the further apart, the more distant.
func nodes(n int) (all numa.Nodes) {
	for i := range n {
		d := map[int]int{}
		for j := range n {
			d[j] = 10 + 5*max(i-j, j-i)
		}
		all = append(all, numa.Node{ID: i, Distances: d})
	}
	return all
}

// yes and no are hints, preferred or not.
func yes(n ...int) Hint { return Hint{numa.Of(n...), true} }
func no(n ...int) Hint  { return Hint{numa.Of(n...), false} }

func of(resources ...[]Hint) []Hints {
	var all []Hints
	for _, list := range resources {
		all = append(all, Hints{"r": list})
	}
	return all
}

func TestMerge(t *testing.T) {
	type outcome struct {
		best                            Hint
		bestEffort, restricted, aligned bool
		single                          Hint
	}
	for name, tt := range map[string]struct {
		nodes int
		hints []Hints
		want  outcome
	}{
		"nobody is asked":                                    {2, nil, outcome{yes(0, 1), true, true, true, yes()}},
		"a provider without hints":                           {2, []Hints{nil, {}}, outcome{yes(0, 1), true, true, true, yes()}},
		"a resource to which it is all one":                  {2, of(nil), outcome{yes(0, 1), true, true, true, yes()}},
		"a resource that cannot be had":                      {2, of([]Hint{}), outcome{no(0, 1), true, false, false, no()}},
		"the same beside one that can":                       {2, of([]Hint{}, []Hint{yes(1)}), outcome{no(1), true, false, false, no()}},
		"one node":                                           {2, of([]Hint{yes(0), yes(1), no(0, 1)}), outcome{yes(0), true, true, true, yes(0)}},
		"only the other node":                                {2, of([]Hint{yes(1), no(0, 1)}), outcome{yes(1), true, true, true, yes(1)}},
		"two that meet on a node":                            {2, of([]Hint{yes(0), yes(1), no(0, 1)}, []Hint{yes(1), no(0, 1)}), outcome{yes(1), true, true, true, yes(1)}},
		"two that do not meet":                               {2, of([]Hint{yes(0)}, []Hint{yes(1)}), outcome{no(0, 1), true, false, false, no()}},
		"two that meet on one of two":                        {2, of([]Hint{yes(0), no(0, 1)}, []Hint{yes(1), no(0, 1)}), outcome{no(0), true, false, false, no()}},
		"needs both nodes":                                   {2, of([]Hint{yes(0, 1)}), outcome{yes(0, 1), true, true, false, no()}},
		"both need both":                                     {2, of([]Hint{yes(0, 1)}, []Hint{yes(0, 1)}), outcome{yes(0, 1), true, true, false, no()}},
		"one needs both, one a node of them":                 {2, of([]Hint{yes(0, 1)}, []Hint{yes(0), yes(1), no(0, 1)}), outcome{no(0, 1), true, false, false, no()}},
		"all one beside a node":                              {2, of(nil, []Hint{yes(1)}), outcome{yes(1), true, true, true, yes(1)}},
		"two pairs of four":                                  {4, of([]Hint{yes(0, 1), yes(2, 3), no(0, 1, 2, 3)}, []Hint{yes(2, 3), no(0, 1, 2, 3)}), outcome{yes(2, 3), true, true, false, no()}},
		"no machine-wide mask is preferred over a small one": {4, of([]Hint{no(0, 1, 2, 3), yes(3)}), outcome{yes(3), true, true, true, yes(3)}},
		// The second needs three nodes: as near to three as can be.
		"not aligned, as many as the most demanding needs": {4, of([]Hint{yes(0), no(0, 1), no(0, 1, 2), no(0, 1, 2, 3)}, []Hint{yes(1, 2, 3), no(0, 1, 2, 3)}), outcome{no(0, 1, 2), true, false, false, no()}},
		"on a machine with one node":                       {1, of([]Hint{yes(0)}, []Hint{yes(0)}), outcome{yes(0), true, true, true, yes()}},
	} {
		t.Run(name, func(t *testing.T) {
			for policyName, want := range map[string]struct {
				best Hint
				ok   bool
			}{
				BestEffort: {tt.want.best, tt.want.bestEffort}, Restricted: {tt.want.best, tt.want.restricted}, SingleNUMANode: {tt.want.single, tt.want.aligned},
			} {
				p := policy{name: policyName, nodes: nodes(tt.nodes)}
				if best, ok := p.merge(tt.hints); best != want.best || ok != want.ok {
					t.Errorf("%s: %+v, %t; want %+v, %t", policyName, best, ok, want.best, want.ok)
				}
			}
		})
	}
}

func TestNodesNearEachOtherArePreferredIfAskedFor(t *testing.T) {
	hints := of([]Hint{yes(0, 3), yes(1, 2), yes(2, 3), no(0, 1, 2, 3)})
	far := nodes(4)
	far[1].Distances[2], far[2].Distances[1] = 40, 40
	p := policy{name: Restricted, nodes: far, closest: true}
	if best, _ := p.merge(hints); best != yes(2, 3) {
		t.Errorf("with 1 and 2 far from each other: %+v, want 2-3", best)
	}
	p.closest = false
	if best, _ := p.merge(hints); best != yes(1, 2) {
		t.Errorf("by number: %+v, want 1-2", best)
	}
}

// The rule as the kubelet documents it, by going through all combinations.
func TestMergeIsWhatAllCombinationsComeTo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 3000 {
		p := policy{name: Restricted, nodes: nodes(1 + random.IntN(4)), closest: random.IntN(2) == 0}
		var resources [][]Hint
		for range 1 + random.IntN(3) {
			list := []Hint{}
			for set := range p.nodes.All().Subsets() {
				if random.IntN(2) == 0 {
					list = append(list, Hint{set, random.IntN(2) == 0})
				}
			}
			if random.IntN(6) == 0 {
				list = nil
			}
			resources = append(resources, list)
		}
		want := byCombinations(p, resources)
		if got, _ := p.merge(of(resources...)); got != want {
			t.Fatalf("round %d: %+v, want %+v of %v (closest %t)", round, got, want, resources, p.closest)
		}
	}
}

func byCombinations(p policy, resources [][]Hint) Hint {
	needed := mostNeeded(resources)
	var best *Hint
	var walk func(i int, taken []Hint)
	walk = func(i int, taken []Hint) {
		if i < len(resources) {
			list := resources[i]
			if list == nil {
				list = indifferent
			} else if len(list) == 0 {
				list = impossible
			}
			for _, h := range list {
				walk(i+1, append(taken[:len(taken):len(taken)], h))
			}
			return
		}
		h, first := Hint{p.nodes.All(), true}, numa.Set(0)
		for _, one := range taken {
			h.Preferred = h.Preferred && one.Preferred
			if one.Nodes == 0 {
				continue
			}
			if first == 0 {
				first = one.Nodes
			}
			h.Preferred = h.Preferred && one.Nodes == first
			h.Nodes &= one.Nodes
		}
		if h.Nodes != 0 && (best == nil || replaces(p, *best, h, needed)) {
			best = &h
		}
	}
	walk(0, nil)
	if best == nil {
		return Hint{Nodes: p.nodes.All()}
	}
	return *best
}

// replaces is the kubelet's comparison of a candidate with the best so far.
func replaces(p policy, current, candidate Hint, needed int) bool {
	smaller := func() bool {
		a, b := candidate.Nodes, current.Nodes
		if a == b {
			return false
		}
		if p.closest && a.Len() == b.Len() && p.distance(a) != p.distance(b) {
			return p.distance(a) < p.distance(b)
		}
		return a.Narrower(b)
	}
	n, m := current.Nodes.Len(), candidate.Nodes.Len()
	switch {
	case current.Preferred != candidate.Preferred:
		return candidate.Preferred
	case current.Preferred, n > needed:
		return smaller()
	case n == needed:
		return m == needed && smaller()
	case m > needed:
		return false
	case m != n:
		return m > n
	}
	return smaller()
}

func TestManyResourcesOnManyNodesAreMergedInReasonableTime(t *testing.T) {
	p := policy{name: Restricted, nodes: nodes(8)}
	var all []Hint
	for set := range p.nodes.All().Subsets() {
		all = append(all, Hint{set, set.Len() == 2})
	}
	hints := Hints{}
	for i := range 20 { // 255^20 combinations
		hints[fmt.Sprint("example.com/", i)] = all
	}
	if best, ok := p.merge([]Hints{hints}); best != yes(0, 1) || !ok {
		t.Errorf("merged to %+v, %t", best, ok)
	}
}
