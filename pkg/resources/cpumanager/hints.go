package cpumanager

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// hints says which NUMA nodes could serve n CPUs: those with as many free, where what is reusable has
// to be among these nodes. Preferred are sets of as few nodes as would do on an empty machine.
func (t Topology) hints(free, reusable cpuset.CPUSet, n int) []topologymanager.Hint {
	size, left, again := t.perNode(t.CPUs()), t.perNode(free.Union(reusable)), t.perNode(reusable)
	var all, required numa.Set
	for node := range size {
		all |= numa.Of(node)
	}
	for node := range again {
		required |= numa.Of(node)
	}
	sum := func(of map[int]int, nodes numa.Set) (sum int) {
		for node, n := range of {
			if nodes.Has(node) {
				sum += n
			}
		}
		return sum
	}
	fewest := all.Len()
	list := []topologymanager.Hint{}
	for nodes := range all.Subsets() {
		if sum(size, nodes) >= n {
			fewest = min(fewest, nodes.Len())
		}
		if nodes&required == required && sum(left, nodes) >= n {
			list = append(list, topologymanager.Hint{Nodes: nodes})
		}
	}
	for i := range list {
		list[i].Preferred = list[i].Nodes.Len() == fewest
	}
	return list
}

func cpuHints(list []topologymanager.Hint) topologymanager.Hints {
	return topologymanager.Hints{string(v1.ResourceCPU): list}
}

// Hints implements topologymanager.Plan.
func (d *draft) Hints(c *v1.Container) topologymanager.Hints {
	n := entitled(d.pod, c)
	if n == 0 {
		return nil
	}
	cpus, had := d.has[c.Name]
	switch {
	case !had:
		return cpuHints(d.topology.hints(d.shared.Difference(d.reserved), d.reusable, n))
	case cpus.Size() != n: // of another spec
		return cpuHints([]topologymanager.Hint{})
	}
	return cpuHints(d.topology.hints(cpus, cpuset.New(), n))
}

// PodHints implements topologymanager.Plan.
func (d *draft) PodHints() topologymanager.Hints {
	n := podEntitled(d.pod)
	if n == 0 {
		return nil
	}
	own := cpuset.New()
	for _, c := range pods.Containers(d.pod) {
		cpus, had := d.has[c.Name]
		if had && cpus.Size() != entitled(d.pod, c) {
			return cpuHints([]topologymanager.Hint{})
		}
		own = own.Union(cpus)
	}
	if own.Size() == n {
		return cpuHints(d.topology.hints(own, cpuset.New(), n))
	}
	return cpuHints(d.topology.hints(d.shared.Difference(d.reserved), own, n))
}

// podEntitled is how many CPUs the pod has to itself at most at any time: its containers and
// sidecars together, or an init container beside the sidecars before it.
func podEntitled(pod *v1.Pod) int {
	lasting, most := 0, 0
	for kind, c := range pods.Containers(pod) {
		n := entitled(pod, c)
		if kind == pods.InitContainer {
			most = max(most, lasting+n)
		} else {
			lasting += n
		}
	}
	return max(most, lasting)
}
