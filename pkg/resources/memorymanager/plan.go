package memorymanager

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// plan is what a pod is going to be given, on assignments that it leaves as they are. Containers reuse
// the memory of the init containers before them, if it is on the same nodes, but not that of sidecars:
// what they reuse is taken off the block of the init container, so that blocks add up to what the pod
// has.
type plan struct {
	m      *Manager
	pod    *v1.Pod
	gone   map[types.UID]bool // pods whose memory counts as free
	others assignments
	has    map[string][]Block // containers, and what they had or are given
	inits  []string           // containers whose memory is reusable
	given  int                // containers that get memory now
}

// Plan implements topologymanager.Provider. Memory of pods that are gone counts as free.
func (m *Manager) Plan(pod *v1.Pod) topologymanager.Plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &plan{m: m, pod: pod, gone: map[types.UID]bool{}, has: map[string][]Block{}}
	if m.gone != nil {
		for uid := range m.assigned {
			p.gone[uid] = uid != pod.UID && m.gone(uid)
		}
	}
	for name, blocks := range m.assigned[pod.UID] {
		p.has[name] = slices.Clone(blocks)
	}
	p.others = p.without(m.assigned)
	return p
}

// without leaves out the pod itself, and pods that are gone.
func (p *plan) without(a assignments) assignments {
	return a.without(func(uid types.UID) bool { return uid == p.pod.UID || p.gone[uid] })
}

// Complete implements topologymanager.Plan.
func (p *plan) Complete() bool {
	for _, c := range pods.Containers(p.pod) {
		if _, has := p.has[c.Name]; !has && len(entitled(p.pod, c)) > 0 {
			return false
		}
	}
	return true
}

// possible returns the hints for a request beside all that is assigned.
func (p *plan) possible(r request) ([]topologymanager.Hint, error) {
	state, err := p.m.machine.use(p.others.with(p.pod.UID, p.has))
	if err != nil {
		return nil, err
	}
	return state.hints(r, p.reusable), nil
}

// reusable is how much of one type init containers have left that are over, on exactly these nodes.
func (p *plan) reusable(nodes numa.Set, of v1.ResourceName) (sum uint64) {
	for _, name := range p.inits {
		for _, b := range p.has[name] {
			if b.Type == of && b.nodes() == nodes {
				sum += b.Size
			}
		}
	}
	return sum
}

// Hints implements topologymanager.Plan.
func (p *plan) Hints(c *v1.Container) topologymanager.Hints {
	r := entitled(p.pod, c)
	if blocks, had := p.has[c.Name]; had {
		return bound(r, blocks)
	}
	return p.answer(r)
}

// PodHints implements topologymanager.Plan.
func (p *plan) PodHints() topologymanager.Hints {
	r := podEntitled(p.pod)
	if len(p.has) > 0 {
		return bound(r, slices.Concat(slices.Collect(maps.Values(p.has))...))
	}
	return p.answer(r)
}

// answer asks for the hints of a request, which are the same for all its types.
func (p *plan) answer(r request) topologymanager.Hints {
	if len(r) == 0 {
		return nil
	}
	list, err := p.possible(r)
	if err != nil { // cannot be: what is assigned was possible
		klog.ErrorS(err, "What containers have of memory is not there", "pod", klog.KObj(p.pod), "podUID", p.pod.UID)
		list = []topologymanager.Hint{}
	}
	hints := topologymanager.Hints{}
	for name := range r {
		hints[string(name)] = list
	}
	return hints
}

// bound are the hints of what has its memory: where it is, or none if that is in several places.
func bound(r request, blocks []Block) topologymanager.Hints {
	hints := topologymanager.Hints{}
	for _, b := range blocks {
		if b.nodes() != blocks[0].nodes() {
			return nil
		}
		if _, asks := r[b.Type]; asks {
			hints[string(b.Type)] = []topologymanager.Hint{{Nodes: b.nodes(), Preferred: true}}
		}
	}
	return hints
}

// Give implements topologymanager.Plan.
func (p *plan) Give(kind pods.ContainerKind, c *v1.Container, nodes numa.Set) error {
	r := entitled(p.pod, c)
	if _, had := p.has[c.Name]; !had && len(r) > 0 {
		if err := p.give(c, r, nodes); err != nil {
			p.m.requests.Inc()
			p.m.errors.Inc()
			return err
		}
		p.given++
	}
	if kind == pods.InitContainer {
		p.inits = append(p.inits, c.Name)
	}
	return nil
}

func (p *plan) give(c *v1.Container, r request, nodes numa.Set) error {
	list, err := p.possible(r)
	if err != nil {
		return err
	}
	if nodes, err = choose(list, nodes); err != nil {
		return err
	}
	var blocks []Block
	for _, name := range slices.Sorted(maps.Keys(r)) {
		b := Block{NUMAAffinity: nodes.Nodes(), Type: name, Size: r[name]}
		p.reuse(b)
		blocks = append(blocks, b)
	}
	p.has[c.Name] = blocks
	return nil
}

// reuse takes what goes to another container off the blocks of init containers that are over.
func (p *plan) reuse(b Block) {
	left := b.Size
	for _, name := range p.inits {
		for i, of := range p.has[name] {
			if of.Type == b.Type && of.nodes() == b.nodes() {
				n := min(left, of.Size)
				p.has[name][i].Size, left = of.Size-n, left-n
			}
		}
	}
}

// Commit implements topologymanager.Plan.
func (p *plan) Commit() error {
	if p.given == 0 {
		return nil
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	if err := p.m.put(p.without(p.m.assigned).with(p.pod.UID, p.has)); err != nil {
		return err
	}
	for name, blocks := range p.has {
		klog.V(2).InfoS("Container has memory of certain NUMA nodes", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "containerName", name, "memory", blocks)
	}
	p.m.requests.Add(float64(p.given))
	p.given = 0
	return nil
}
