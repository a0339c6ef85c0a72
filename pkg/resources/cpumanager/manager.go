package cpumanager

import (
	"errors"
	"path/filepath"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// Config is what a Manager is made of.
type Config struct {
	Topology Topology
	// Named are the reserved CPUs (reservedSystemCPUs); if empty, as many are reserved
	// as Reserved says, the sum of systemReserved and kubeReserved.
	Named    cpuset.CPUSet
	Reserved apiresource.Quantity
	Options  options.CPUManager
	Root     string // the agent's directory, for the state's file
	// Gone reports whether nobody wants a pod any more: its CPUs count as free. nil: no pod
	// is known to be.
	Gone func(types.UID) bool
	// Metrics and Alignment count; nil: nobody does.
	Metrics   prometheus.Registerer
	Alignment *topologymanager.Alignment
}

// Manager knows which CPUs each container has. Safe for concurrent use.
type Manager struct {
	policy  policy
	file    string
	gone    func(types.UID) bool
	metrics *metrics
	changed chan struct{}

	mu    sync.Mutex
	state state // as in the file
}

// New continues with the state of an earlier agent, if there was one. It is an
// error if that is impossible: another policy or other CPUs. A damaged file is moved
// aside (see durable.Load), and pods are given their CPUs anew when they are next admitted
// or synced; the updater moves what runs.
func New(cfg Config) (*Manager, error) {
	if len(cfg.Topology) == 0 || cfg.Root == "" {
		return nil, errors.New("cpumanager: no Topology or Root")
	}
	p, err := newPolicy(cfg.Topology, cfg.Named, cfg.Reserved, cfg.Options)
	if err != nil {
		return nil, err
	}
	m := &Manager{policy: p, file: filepath.Join(cfg.Root, FileName), gone: cfg.Gone, changed: make(chan struct{}, 1)}
	s, found, err := load(m.file, policyStatic)
	switch {
	case err != nil:
		return nil, err
	case !found, s.shared.IsEmpty() && len(s.assigned) == 0:
		s = p.initial()
		if err := save(m.file, s); err != nil {
			return nil, err
		}
	default:
		if err := p.check(s); err != nil {
			return nil, useless(m.file, err)
		}
	}
	m.state = s
	if m.metrics, err = newMetrics(m, cfg.Metrics, cfg.Alignment); err != nil {
		return nil, err
	}
	m.metrics.show(p.topology, s)
	klog.InfoS("CPU manager: static policy", "reservedCPUs", p.reserved, "sharedCPUs", m.state.shared, "podsWithCPUs", len(m.state.assigned))
	return m, nil
}

// put is called with the lock held.
func (m *Manager) put(s state) error {
	if err := save(m.file, s); err != nil {
		return err
	}
	if !s.shared.Equals(m.state.shared) {
		klog.V(2).InfoS("Shared CPUs changed", "from", m.state.shared, "to", s.shared)
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
	m.state = s
	m.metrics.show(m.policy.topology, s)
	return nil
}

// CPUs returns the CPUs that the container runs on, in the form of cpuset.cpus, and
// whether it has them to itself.
func (m *Manager) CPUs(uid types.UID, container string) (cpus string, exclusive bool) {
	set, exclusive := m.cpus(uid, container)
	return set.String(), exclusive
}

// ExclusiveCPUs returns the CPUs that the container has to itself; empty: none.
func (m *Manager) ExclusiveCPUs(uid types.UID, container string) cpuset.CPUSet {
	if set, exclusive := m.cpus(uid, container); exclusive {
		return set
	}
	return cpuset.New()
}

// AllocatableCPUs returns the CPUs that containers can have to themselves, whoever has them now: all
// but the reserved ones.
func (m *Manager) AllocatableCPUs() cpuset.CPUSet {
	return m.policy.topology.CPUs().Difference(m.policy.reserved)
}

func (m *Manager) cpus(uid types.UID, container string) (cpus cpuset.CPUSet, exclusive bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if cpus, ok := m.state.assigned[uid][container]; ok {
		return cpus, true
	}
	return m.state.shared, false
}

// Release takes back the CPUs of a pod that has nothing running any more.
// Idempotent.
func (m *Manager) Release(uid types.UID) error {
	return m.release(func(u types.UID) bool { return u == uid })
}

// Orphans takes back the CPUs of pods that are gone. Plan and Commit wait while it asks, so a pod
// that becomes wanted before it is planned is never taken for gone.
func (m *Manager) Orphans(gone func(types.UID) bool) error { return m.release(gone) }

func (m *Manager) release(gone func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.state.release(gone)
	if len(next.assigned) == len(m.state.assigned) {
		return nil
	}
	return m.put(next)
}
