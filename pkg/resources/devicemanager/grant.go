package devicemanager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// How long a plug-in may take. The kubelet bounds only PreStartContainer, and its sync loop waits for
// the others.
const (
	preferTimeout   = 10 * time.Second
	allocateTimeout = time.Minute
	preStartTimeout = api.KubeletPreStartContainerRPCTimeoutInSecs * time.Second
)

// unexpected makes an error the kubelet's rejection.
func unexpected(err error) error {
	return &pods.Rejection{Reason: "UnexpectedAdmissionError", Message: fmt.Sprintf("Allocate failed due to %v, which is unexpected", err)}
}

// stopped is the kubelet's error of a plug-in that has gone.
func stopped(resource string) error { return fmt.Errorf("endpoint of %s has been stopped", resource) }

// replaced reports whether another plug-in has come for the resource of one: the one may have ended for that.
func (m *Manager) replaced(p *plugin) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.offers[p.resource].newest()
	return now != nil && now != p
}

// SetUp has plug-ins give what was reserved for a pod, once. The error is a *pods.Rejection if one
// refuses; any other means that the pod has to wait: for the end of the pod that still has the devices, or for a
// plug-in that has not come back since the agent started.
func (m *Manager) SetUp(ctx context.Context, pod *v1.Pod) error {
	for _, c := range pods.Containers(pod) {
		for _, resource := range slices.Sorted(maps.Keys(wanted(c))) {
			if err := m.confirm(ctx, pod, c, resource); err != nil {
				return err
			}
		}
	}
	return nil
}

// confirm has the plug-in give a container what was reserved for it.
func (m *Manager) confirm(ctx context.Context, pod *v1.Pod, c *v1.Container, resource string) error {
	m.mu.Lock()
	g, o := m.grants[pod.UID][c.Name][resource], m.offers[resource]
	p, coming := o.current(), o.newest() != nil
	if g == nil || g.response != nil {
		m.mu.Unlock()
		if g == nil || p != nil {
			return nil
		}
		return m.patience(pod, resource)
	}
	r, err := m.pending(pod, c, resource, g)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	switch {
	case p == nil && coming:
		return fmt.Errorf("the device plug-in of %s has not listed its devices yet", resource)
	case p == nil:
		return unexpected(stopped(resource))
	}
	began := time.Now()
	preferred := m.prefer(ctx, p, r)
	m.mu.Lock()
	chosen := &grant{near: g.near}
	if r, err = m.pending(pod, c, resource, g); err == nil {
		if chosen.devices, err = r.choose(preferred); err != nil {
			err = unexpected(err)
		}
	}
	if err == nil {
		m.grants = m.grants.with(pod.UID, c.Name, resource, chosen)
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	response, err := p.allocate(ctx, chosen.ids())
	m.metrics.allocated(resource, time.Since(began))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && m.replaced(p):
		return fmt.Errorf("the device plug-in of %s has registered anew while it was asked, and is asked again: %w", resource, err)
	case err != nil:
		return unexpected(err)
	}
	klog.V(2).InfoS("Container has devices", "pod", klog.KObj(pod), "podUID", pod.UID, "containerName", c.Name, "resourceName", resource, "devices", chosen.ids())
	return m.record(pod.UID, c.Name, resource, chosen, response)
}

// patience is why a pod of which nothing runs waits for a plug-in that has not come back since the agent started, and
// perhaps the machine: the plug-in may have to prepare the devices. Once it has waited for as long as the node
// keeps the resource, it is turned away, or starts again with what it had.
func (m *Manager) patience(pod *v1.Pod, resource string) error {
	begun, running := m.cfg.State(pod.UID)
	if running {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch o := m.offers[resource]; {
	case o != nil && o.early && !o.removed:
		return fmt.Errorf("the device plug-in of %s has not registered again yet", resource)
	case begun || o != nil && !o.removed:
		return nil
	}
	return unexpected(fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", resource))
}

// pending returns the request for what a container has only reserved so far. It is called with the lock held.
func (m *Manager) pending(pod *v1.Pod, of *v1.Container, resource string, g *grant) (request, error) {
	if m.grants[pod.UID][of.Name][resource] != g {
		return request{}, errors.New("the pod's devices were taken back")
	}
	r := request{resource: resource, n: len(g.devices), free: map[string]device{}, near: g.near}
	for kind, c := range pods.Containers(pod) {
		if c.Name == of.Name {
			break
		}
		if has := m.grants[pod.UID][c.Name][resource]; has != nil {
			r.reusable = reuse(r.reusable, kind, has)
		}
	}
	others := m.grants.used(resource, func(uid types.UID) bool { return uid == pod.UID })
	for id := range g.devices {
		if others[id] {
			return request{}, fmt.Errorf("device %s of %s is still another pod's, which is about to end", id, resource)
		}
	}
	used := m.grants.used(resource, func(types.UID) bool { return false })
	for id, d := range m.offers[resource].healthy() {
		if _, own := g.devices[id]; own || !used[id] {
			if _, again := r.reusable[id]; !again {
				r.free[id] = d
			}
		}
	}
	return r, nil
}

// prefer asks a plug-in which devices it would choose, if it wants to be asked. Without an answer the choice is
// ours.
func (m *Manager) prefer(ctx context.Context, p *plugin, r request) []string {
	if !p.options.GetGetPreferredAllocationAvailable() {
		return nil
	}
	available, certain := r.preference()
	if available == nil {
		return nil
	}
	ids, err := p.preferred(ctx, available, certain, r.n)
	if err != nil {
		klog.ErrorS(err, "A device plug-in did not say which devices it prefers, choosing without it", "resourceName", r.resource)
	}
	return ids
}

// record puts on disk what a plug-in has given, unless it was taken back meanwhile.
func (m *Manager) record(uid types.UID, container, resource string, reserved *grant, response *api.ContainerAllocateResponse) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grants[uid][container][resource] != reserved {
		return errors.New("the pod's devices were taken back")
	}
	return m.put(m.grants.with(uid, container, resource, &grant{devices: reserved.devices, near: reserved.near, response: response}))
}

// PreStart is called each time before a container is created: plug-ins that want to know are told
// (PreStartContainer). A container without a record of its devices, since the record was damaged or a plug-in has
// come only now, is given some first.
func (m *Manager) PreStart(ctx context.Context, pod *v1.Pod, c *v1.Container) error {
	for resource := range wanted(c) {
		m.mu.Lock()
		g, o := m.grants[pod.UID][c.Name][resource], m.offers[resource]
		offered, p, required := o != nil && !o.removed, o.newest(), o != nil && o.preStart
		m.mu.Unlock()
		if g == nil && offered {
			if err := m.giveAgain(ctx, pod, c); err != nil {
				return err
			}
			m.mu.Lock()
			g = m.grants[pod.UID][c.Name][resource]
			m.mu.Unlock()
		}
		switch {
		case g == nil || !required:
			continue
		case p == nil: // what it would have prepared is not
			return preStartFailed(stopped(resource))
		}
		if err := p.preStart(ctx, g.ids()); err != nil {
			return err
		}
	}
	return nil
}

// giveAgain gives one container of a pod that was admitted earlier what it has no record of.
func (m *Manager) giveAgain(ctx context.Context, pod *v1.Pod, of *v1.Container) error {
	p := m.plan(pod)
	p.begun = false
	for kind, c := range pods.Containers(pod) {
		if c.Name != of.Name {
			continue
		}
		if err := p.Give(kind, c, 0); err != nil {
			return err
		}
		if err := p.Commit(); err != nil {
			return err
		}
	}
	return m.SetUp(ctx, pod)
}
