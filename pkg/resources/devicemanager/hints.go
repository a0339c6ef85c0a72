package devicemanager

import (
	"maps"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// maxHintNodes is how many NUMA nodes may have devices of one resource for their sets to be compared: there are
// 2^n of them. With more, nodes do not matter.
const maxHintNodes = 16

// hints says which NUMA nodes could serve n devices of those that are available; what is reusable has to be
// among these nodes. nil: no device belongs to a node. all are those of the resource, known the machine's nodes.
func hints(all, available, reusable map[string]device, n int, known numa.Set) []topologymanager.Hint {
	of, free, again := count(all), count(available), count(reusable)
	nodes, tied := numa.Set(0), false
	for own := range of {
		nodes |= own & known
		tied = tied || own != 0
	}
	if nodes == 0 {
		nodes = known
	}
	if !tied || nodes.Len() > maxHintNodes {
		return nil
	}
	fewest := nodes.Len()
	list := []topologymanager.Hint{}
	for set := range nodes.Subsets() {
		if of.within(set) >= n {
			fewest = min(fewest, set.Len())
		}
		if used := again.within(set); used == again.within(^numa.Set(0)) && used+free.within(set) >= n {
			list = append(list, topologymanager.Hint{Nodes: set})
		}
	}
	for i := range list {
		list[i].Preferred = list[i].Nodes.Len() == fewest
	}
	return list
}

// counts says how many devices belong to the same NUMA nodes, by these: there may be many devices, but few
// such sets.
type counts map[numa.Set]int

func count(devices map[string]device) counts {
	c := counts{}
	for _, d := range devices {
		c[d.nodes]++
	}
	return c
}

// within is the number of devices that belong to one of the nodes.
func (c counts) within(set numa.Set) (n int) {
	for own, have := range c {
		if own&set != 0 {
			n += have
		}
	}
	return n
}

// of returns the devices of a grant as the plug-in describes them now.
func (v view) of(g *grant) map[string]device {
	out := map[string]device{}
	for id, nodes := range g.devices {
		out[id] = device{healthy: true, nodes: nodes}
	}
	return out
}

// Hints implements topologymanager.Plan.
func (p *plan) Hints(c *v1.Container) topologymanager.Hints {
	out := topologymanager.Hints{}
	if p.begun {
		return out
	}
	names, n := p.wanted(c)
	for _, resource := range names {
		v := p.offers[resource]
		if g := p.has(c, resource); g != nil {
			out[resource] = []topologymanager.Hint{}
			if len(g.devices) == n[resource] {
				out[resource] = hints(v.all, v.of(g), nil, n[resource], p.m.cfg.Nodes)
			}
			continue
		}
		r := p.request(resource, n[resource], 0)
		out[resource] = hints(v.all, r.free, r.reusable, r.n, p.m.cfg.Nodes)
	}
	return out
}

// PodHints implements topologymanager.Plan.
func (p *plan) PodHints() topologymanager.Hints {
	if p.begun {
		return nil
	}
	lasting, most, own := map[string]int{}, map[string]int{}, map[string]map[string]device{}
	for kind, c := range pods.Containers(p.pod) {
		names, n := p.wanted(c)
		for _, resource := range names {
			if kind == pods.InitContainer {
				most[resource] = max(most[resource], lasting[resource]+n[resource])
			} else {
				lasting[resource] += n[resource]
				most[resource] = max(most[resource], lasting[resource])
			}
			if g := p.has(c, resource); g != nil {
				if own[resource] == nil {
					own[resource] = map[string]device{}
				}
				maps.Copy(own[resource], p.offers[resource].of(g))
			}
		}
	}
	out := topologymanager.Hints{}
	for resource, n := range most {
		v := p.offers[resource]
		switch has := own[resource]; {
		case len(has) == 0:
			out[resource] = hints(v.all, p.request(resource, n, 0).free, nil, n, p.m.cfg.Nodes)
		case len(has) == n:
			out[resource] = hints(v.all, has, nil, n, p.m.cfg.Nodes)
		default:
			out[resource] = []topologymanager.Hint{}
		}
	}
	return out
}
