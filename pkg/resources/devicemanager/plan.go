package devicemanager

import (
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// plan is which devices a pod is going to be given. It asks no plug-in.
type plan struct {
	m        *Manager
	pod      *v1.Pod
	offers   map[string]view
	grants   grants                       // with what is planned
	gone     map[types.UID]bool           // pods whose devices count as free
	reusable map[string]map[string]device // by resource
	planned  []planned
	// begun is true for a pod that runs or has run. It is never turned away for what it lacks: PreStart gives that to
	// containers as they start.
	begun bool
}

// planned is a grant that is to be put on record.
type planned struct{ container, resource string }

// view is a resource as it was when the plan was begun.
type view struct {
	all     map[string]device
	healthy map[string]device
	// early is true while the plug-in has not come back since the agent started.
	early bool
}

// Plan implements topologymanager.Provider. Devices of pods that are gone count as free; they are handed over
// by SetUp once they are.
func (m *Manager) Plan(pod *v1.Pod) topologymanager.Plan { return m.plan(pod) }

func (m *Manager) plan(pod *v1.Pod) *plan {
	begun, _ := m.cfg.State(pod.UID)
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &plan{m: m, pod: pod, begun: begun, offers: map[string]view{}, grants: m.grants, gone: map[types.UID]bool{}, reusable: map[string]map[string]device{}}
	for uid := range m.grants {
		p.gone[uid] = uid != pod.UID && m.cfg.Gone(uid)
	}
	for _, c := range pods.Containers(pod) {
		for resource := range wanted(c) {
			if o := m.offers[resource]; o != nil && !o.removed {
				p.offers[resource] = view{all: o.devices, healthy: o.healthy(), early: o.early}
			}
		}
	}
	return p
}

// wanted returns what a container wants of what plug-ins offer or it has already, by name in order.
func (p *plan) wanted(c *v1.Container) (names []string, n map[string]int) {
	n = wanted(c)
	maps.DeleteFunc(n, func(resource string, _ int) bool {
		_, offered := p.offers[resource]
		return !offered && p.has(c, resource) == nil
	})
	return slices.Sorted(maps.Keys(n)), n
}

func (p *plan) has(c *v1.Container, resource string) *grant {
	return p.grants[p.pod.UID][c.Name][resource]
}

// Complete implements topologymanager.Plan.
func (p *plan) Complete() bool {
	if p.begun {
		return true
	}
	for _, c := range pods.Containers(p.pod) {
		names, _ := p.wanted(c)
		for _, resource := range names {
			if p.has(c, resource) == nil {
				return false
			}
		}
	}
	return true
}

// request is what a container that has nothing of a resource yet asks for.
func (p *plan) request(resource string, n int, near numa.Set) request {
	r := request{resource: resource, n: n, reusable: p.reusable[resource], free: map[string]device{}, near: near}
	used := p.grants.used(resource, func(uid types.UID) bool { return p.gone[uid] })
	for id, d := range p.offers[resource].healthy {
		if !used[id] {
			r.free[id] = d
		}
	}
	return r
}

// Give implements topologymanager.Plan.
func (p *plan) Give(kind pods.ContainerKind, c *v1.Container, near numa.Set) error {
	if p.begun {
		return nil
	}
	names, n := p.wanted(c)
	for _, resource := range names {
		g := p.has(c, resource)
		if g != nil {
			if err := p.keeps(c, resource, g, n[resource]); err != nil {
				return err
			}
		} else {
			if len(p.offers[resource].healthy) == 0 {
				return fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", resource)
			}
			devices, err := p.request(resource, n[resource], near).choose(nil)
			if err != nil {
				return err
			}
			g = &grant{devices: devices, near: near}
			p.grants = p.grants.with(p.pod.UID, c.Name, resource, g)
			p.planned = append(p.planned, planned{c.Name, resource})
		}
		p.reusable[resource] = reuse(p.reusable[resource], kind, g)
	}
	return nil
}

// keeps returns why a container that has not started yet cannot have what is on record for it. A plug-in that is not back since
// the agent's restart is waited for by SetUp.
func (p *plan) keeps(c *v1.Container, resource string, g *grant, n int) error {
	v := p.offers[resource]
	if have := len(g.devices); have != n {
		return fmt.Errorf("pod %q container %q changed request for resource %q from %d to %d", p.pod.UID, c.Name, resource, have, n)
	}
	switch {
	case v.early && g.response != nil:
		return nil
	case len(v.healthy) == 0:
		return fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", resource)
	}
	for id := range g.devices {
		if !v.healthy[id].healthy {
			return fmt.Errorf("previously allocated devices are no longer healthy; cannot allocate unhealthy devices %s", resource)
		}
	}
	return nil
}

// reuse returns which devices later containers of the pod may have after a container: those of init containers that have
// ended, until another container has them to the end.
func reuse(before map[string]device, kind pods.ContainerKind, g *grant) map[string]device {
	after := maps.Clone(before)
	if after == nil {
		after = map[string]device{}
	}
	for id, nodes := range g.devices {
		if kind == pods.InitContainer {
			after[id] = device{healthy: true, nodes: nodes}
		} else {
			delete(after, id)
		}
	}
	return after
}

// Commit implements topologymanager.Plan: the devices are reserved. On disk they are once the plug-in has given
// them.
func (p *plan) Commit() error {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	for _, what := range p.planned {
		g := p.grants[p.pod.UID][what.container][what.resource]
		used := p.m.grants.used(what.resource, func(uid types.UID) bool { return uid == p.pod.UID || p.gone[uid] })
		for id := range g.devices {
			if used[id] {
				return fmt.Errorf("device %s of %s was given to another pod meanwhile", id, what.resource)
			}
		}
	}
	for _, what := range p.planned {
		p.m.grants = p.m.grants.with(p.pod.UID, what.container, what.resource, p.grants[p.pod.UID][what.container][what.resource])
	}
	p.planned = nil
	return nil
}
