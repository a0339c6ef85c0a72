package devicemanager

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// request is a container's wish for devices of one resource, and what there is.
type request struct {
	resource string
	n        int
	reusable map[string]device // of init containers that have ended by then; they are taken first
	free     map[string]device // healthy ones that nobody has
	near     numa.Set          // NUMA nodes to take them from as far as it goes; empty: any
}

// groups are the free devices in the order in which they are taken: near the wanted nodes, elsewhere, of no node.
func (r request) groups() (aligned, rest []string) {
	tied := false
	for _, d := range r.free {
		tied = tied || d.nodes != 0
	}
	var elsewhere, nowhere []string
	for _, id := range slices.Sorted(maps.Keys(r.free)) {
		switch d := r.free[id]; {
		case !tied, r.near == 0, d.nodes == 0:
			nowhere = append(nowhere, id)
		case d.nodes&r.near != 0:
			aligned = append(aligned, id)
		default:
			elsewhere = append(elsewhere, id)
		}
	}
	return aligned, append(elsewhere, nowhere...)
}

// again returns the devices that are used again.
func (r request) again() []string {
	ids := slices.Sorted(maps.Keys(r.reusable))
	return ids[:min(r.n, len(ids))]
}

// preference returns what the plug-in is asked to choose from, and what of it is certain: all that is
// near the wanted nodes if that is more than is needed. nil: there is no choice.
func (r request) preference() (available, certain []string) {
	certain = r.again()
	aligned, rest := r.groups()
	need := r.n - len(certain)
	switch {
	case need <= 0 || need == len(aligned) || need >= len(aligned)+len(rest):
		return nil, nil
	case need < len(aligned):
		available = append(available, aligned...)
	default:
		available = append(append(available, aligned...), rest...)
		certain = append(certain, aligned...)
	}
	for _, id := range r.again() {
		if !slices.Contains(available, id) {
			available = append(available, id)
		}
	}
	return available, certain
}

// choose takes the devices, those that the plug-in prefers before others that would do as well. The error is
// the kubelet's.
func (r request) choose(preferred []string) (map[string]numa.Set, error) {
	taken := map[string]numa.Set{}
	take := func(ids []string, from map[string]device) {
		for _, id := range ids {
			if d, ok := from[id]; ok && len(taken) < r.n {
				taken[id] = d.nodes
			}
		}
	}
	take(r.again(), r.reusable)
	aligned, rest := r.groups()
	if need := r.n - len(taken); len(aligned)+len(rest) < need {
		return nil, fmt.Errorf("requested number of devices unavailable for %s. Requested: %d, Available: %d", r.resource, need, len(aligned)+len(rest))
	}
	if r.n-len(taken) < len(aligned) {
		near := map[string]device{}
		for _, id := range aligned {
			near[id] = r.free[id]
		}
		take(preferred, near)
		take(aligned, near)
		return taken, nil
	}
	take(aligned, r.free)
	take(preferred, r.free)
	take(rest, r.free)
	return taken, nil
}
