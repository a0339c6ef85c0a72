package memorymanager

import (
	"errors"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// hints says which nodes could serve a request: those that have as much free of all its types, where
// reusable bytes of the same nodes count as free. A node that containers are on alone is in no group,
// and one of a group is in no other and not alone. Preferred are sets of as few nodes as would do on
// an empty machine.
func (m NUMANodeMap) hints(r request, reusable func(numa.Set, v1.ResourceName) uint64) []topologymanager.Hint {
	var all numa.Set
	for id := range m {
		all |= numa.Of(id)
	}
	fewest := all.Len()
	list := []topologymanager.Hint{}
	for nodes := range all.Subsets() {
		fits, free := true, m.groups(nodes)
		for name, n := range r {
			fits = fits && m.sum(nodes, name, func(t *MemoryTable) uint64 { return t.Allocatable }) >= n
			free = free && m.sum(nodes, name, func(t *MemoryTable) uint64 { return t.Free })+reusable(nodes, name) >= n
		}
		if !fits {
			continue
		}
		fewest = min(fewest, nodes.Len())
		if free {
			list = append(list, topologymanager.Hint{Nodes: nodes})
		}
	}
	for i := range list {
		list[i].Preferred = list[i].Nodes.Len() == fewest
	}
	return list
}

// groups reports whether the use of these nodes goes with how they are used already.
func (m NUMANodeMap) groups(nodes numa.Set) bool {
	for _, id := range nodes.Nodes() {
		if used := m[id]; used.NumberOfAssignments > 0 && numa.Of(used.Cells...) != nodes {
			return false
		}
	}
	return true
}

// choose finds the nodes for a request: those that it shall have, if they will do, or more; empty:
// the best.
func choose(list []topologymanager.Hint, shall numa.Set) (numa.Set, error) {
	if i := slices.IndexFunc(list, func(h topologymanager.Hint) bool { return h.Nodes == shall }); i >= 0 {
		return shall, nil
	}
	var best topologymanager.Hint
	for _, h := range list {
		switch {
		case h.Nodes&shall != shall:
		case best.Nodes == 0, h.Preferred && !best.Preferred, h.Preferred == best.Preferred && h.Nodes.Narrower(best.Nodes):
			best = h
		}
	}
	switch {
	case best.Nodes != 0:
		return best.Nodes, nil
	case shall == 0:
		return 0, errors.New("[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available")
	}
	return 0, errors.New("[memorymanager] failed to find NUMA nodes to extend the current topology hint")
}
