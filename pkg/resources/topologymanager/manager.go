package topologymanager

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// Provider divides one kind of resource among the containers of pods.
type Provider interface {
	// Plan begins to divide it for a pod, on what is free now. Until the plan is committed, nobody
	// but the caller plans or commits, while pods may be released.
	Plan(*v1.Pod) Plan
	// Release takes back what the pod has. Idempotent.
	Release(types.UID) error
	// Orphans takes back what pods have that are gone.
	Orphans(gone func(types.UID) bool) error
}

// Plan is what one provider is going to give to a pod. It is for one goroutine, and may be dropped
// at any point.
type Plan interface {
	// Complete reports whether the pod has on record all that it is entitled to.
	Complete() bool
	// Hints says from which NUMA nodes a container could be served after those that have been given
	// theirs; nil where it is entitled to nothing. What it has on record already is where it is.
	Hints(*v1.Container) Hints
	// PodHints says this of all containers together.
	PodHints() Hints
	// Give plans what a container is entitled to, from these nodes as far as it goes; empty: from
	// any. An error is why there is not enough.
	Give(kind pods.ContainerKind, c *v1.Container, nodes numa.Set) error
	// Commit puts on record what was given. Idempotent: what fails is tried again, by another plan.
	Commit() error
}

// Config is what a Manager is made of; Policy and Nodes are required.
type Config struct {
	Policy    string
	Scope     Scope // empty: ContainerScope
	Options   options.TopologyManager
	Nodes     numa.Nodes
	Providers []Provider
	Alignment *Alignment
	Metrics   prometheus.Registerer // nil: none
}

// Manager gives pods what they are entitled to of all providers. Safe for concurrent use.
type Manager struct {
	policy
	scope     Scope
	providers []Provider
	alignment *Alignment
	judged    *admissions

	mu sync.Mutex // held while pods are planned
}

// New checks the configuration against the machine. The policy None fits all machines.
func New(cfg Config) (*Manager, error) {
	if cfg.Scope == "" {
		cfg.Scope = ContainerScope
	}
	m := &Manager{policy: policy{name: cfg.Policy, nodes: cfg.Nodes}, scope: cfg.Scope, providers: cfg.Providers, alignment: cfg.Alignment}
	switch cfg.Policy {
	case None:
	case BestEffort, Restricted, SingleNUMANode:
		if n := len(cfg.Nodes); n > cfg.Options.MaxNodes {
			return nil, fmt.Errorf("topologyManagerPolicy %s: unsupported on machines with more than %d NUMA Nodes, this one has %d", cfg.Policy, cfg.Options.MaxNodes, n)
		}
		m.closest = cfg.Options.PreferClosest && cfg.Policy != SingleNUMANode
	default:
		return nil, fmt.Errorf("unknown topologyManagerPolicy %q", cfg.Policy)
	}
	if cfg.Policy != None && cfg.Options.PreferClosest {
		for _, n := range cfg.Nodes {
			if n.Distances == nil {
				return nil, fmt.Errorf("topologyManagerPolicyOptions prefer-closest-numa-nodes: the kernel does not say how far NUMA node %d is from the others", n.ID)
			}
		}
	}
	if m.name != None {
		m.alignment.Expect(ContainerScope, NUMANode)
		m.alignment.Expect(PodScope, NUMANode)
		klog.InfoS("Topology manager", "policy", m.name, "scope", m.scope, "numaNodes", m.nodes.All(), "preferClosestNUMANodes", m.closest)
	}
	var err error
	m.judged, err = newAdmissions(cfg.Metrics)
	return m, err
}

// Check says why Allocate would not give the pod what it is entitled to: nil, or a *pods.Rejection.
// It changes nothing.
func (m *Manager) Check(pod *v1.Pod) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := time.Now()
	err := m.divide(pod, m.plan(pod), true)
	m.judged.observe(began, err != nil && m.name != None)
	return err
}

// Allocate gives the pod what it is entitled to, once and for as long as it lives. The error is a
// *pods.Rejection if there is not enough, and any other if that could not be put on record, as on a
// full disk: then it is to be tried again. Idempotent.
func (m *Manager) Allocate(pod *v1.Pod) error { return m.allocate(pod, true) }

// Restore gives a pod that already runs what it should have and that is not on record, because the
// record was damaged or there was none yet. It is too late to turn the pod away for NUMA nodes that
// do not suit each other.
func (m *Manager) Restore(pod *v1.Pod) error { return m.allocate(pod, false) }

// Release takes back all that the pod has. Idempotent.
func (m *Manager) Release(uid types.UID) error {
	var errs []error
	for _, p := range m.providers {
		errs = append(errs, p.Release(uid))
	}
	return errors.Join(errs...)
}

// Orphans takes back what pods have that are gone.
func (m *Manager) Orphans(gone func(types.UID) bool) error {
	var errs []error
	for _, p := range m.providers {
		errs = append(errs, p.Orphans(gone))
	}
	return errors.Join(errs...)
}

// plan begins a plan with each provider.
func (m *Manager) plan(pod *v1.Pod) []Plan {
	plans := make([]Plan, len(m.providers))
	for i, p := range m.providers {
		plans[i] = p.Plan(pod)
	}
	return plans
}

func complete(plans []Plan) bool {
	for _, p := range plans {
		if !p.Complete() {
			return false
		}
	}
	return true
}

func (m *Manager) allocate(pod *v1.Pod, strict bool) error {
	// Each sync of a pod comes here: it does not wait for others that are planned.
	if complete(m.plan(pod)) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	plans := m.plan(pod)
	if err := m.divide(pod, plans, strict); err != nil {
		return err
	}
	for _, p := range plans {
		if err := p.Commit(); err != nil {
			return fmt.Errorf("give pod %s what it has to itself: %w", klog.KObj(pod), err)
		}
	}
	if m.name == SingleNUMANode && strict {
		m.count(pod)
	}
	return nil
}

// count notes a pod whose alignment the policy guarantees.
func (m *Manager) count(pod *v1.Pod) {
	if m.scope == PodScope {
		m.alignment.Granted(PodScope, NUMANode)
		return
	}
	for range pods.Containers(pod) {
		m.alignment.Granted(ContainerScope, NUMANode)
	}
}

// divide plans what each container is given. Not strict, it gives what there is of what cannot be
// aligned.
func (m *Manager) divide(pod *v1.Pod, plans []Plan, strict bool) error {
	align := func(c *v1.Container) (numa.Set, error) {
		if m.name == None {
			return 0, nil
		}
		hints := make([]Hints, len(plans))
		for i, p := range plans {
			if c == nil {
				hints[i] = p.PodHints()
			} else {
				hints[i] = p.Hints(c)
			}
		}
		best, ok := m.merge(hints)
		klog.V(4).InfoS("Merged topology hints", "pod", klog.KObj(pod), "podUID", pod.UID, "hints", hints, "best", best, "suits", ok)
		if !ok && strict {
			return 0, m.misaligned()
		}
		return best.Nodes, nil
	}
	var nodes numa.Set
	var err error
	if m.scope == PodScope {
		if nodes, err = align(nil); err != nil {
			return err
		}
	}
	for kind, c := range pods.Containers(pod) {
		if m.scope != PodScope {
			if nodes, err = align(c); err != nil {
				return err
			}
		}
		for _, p := range plans {
			if err := p.Give(kind, c, nodes); err != nil {
				return unexpected(err)
			}
		}
	}
	return nil
}

// misaligned is the kubelet's rejection of a pod whose resources are of different NUMA nodes.
func (m *Manager) misaligned() error {
	if m.name == SingleNUMANode {
		m.alignment.Failed(m.scope, NUMANode)
	}
	return &pods.Rejection{Reason: "TopologyAffinityError", Message: "Resources cannot be allocated with Topology locality"}
}

// unexpected makes an error the kubelet's rejection for what it does not expect at admission: the
// scheduler should not have sent the pod. A rejection stays as it is.
func unexpected(err error) error {
	var r *pods.Rejection
	if errors.As(err, &r) {
		return r
	}
	return &pods.Rejection{Reason: "UnexpectedAdmissionError", Message: fmt.Sprintf("Allocate failed due to %v, which is unexpected", err)}
}
