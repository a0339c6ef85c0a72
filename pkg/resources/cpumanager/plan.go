package cpumanager

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

// plan is what a pod is going to be given of the manager's CPUs.
type plan struct {
	*draft
	m     *Manager
	gone  map[types.UID]bool // pods whose CPUs count as free
	given int                // containers that get CPUs now
}

// Plan implements topologymanager.Provider. CPUs of pods that are gone count as free.
func (m *Manager) Plan(pod *v1.Pod) topologymanager.Plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &plan{m: m, gone: map[types.UID]bool{}}
	if m.gone != nil {
		for uid := range m.state.assigned {
			p.gone[uid] = uid != pod.UID && m.gone(uid)
		}
	}
	p.draft = m.policy.draft(p.released(m.state), pod)
	return p
}

func (p *plan) released(s state) state {
	return s.release(func(uid types.UID) bool { return p.gone[uid] })
}

// Complete implements topologymanager.Plan.
func (p *plan) Complete() bool {
	for _, c := range pods.Containers(p.pod) {
		if _, has := p.has[c.Name]; !has && entitled(p.pod, c) > 0 {
			return false
		}
	}
	return true
}

// Give implements topologymanager.Plan.
func (p *plan) Give(kind pods.ContainerKind, c *v1.Container, nodes numa.Set) error {
	n, err := p.give(kind, c, nodes)
	if err != nil {
		p.m.metrics.refused()
		return err
	}
	if n > 0 {
		p.given++
	}
	return nil
}

// Commit implements topologymanager.Plan.
func (p *plan) Commit() error {
	if p.given == 0 {
		return nil
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	if err := p.m.put(p.on(p.released(p.m.state))); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.has)) {
		klog.V(2).InfoS("Container has CPUs of its own", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "containerName", name, "cpus", p.has[name])
	}
	p.m.metrics.pinned(p.given)
	p.given = 0
	return nil
}
