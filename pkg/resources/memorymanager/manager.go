package memorymanager

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// Config is what a Manager is made of.
type Config struct {
	Nodes numa.Nodes
	// Reserved says how much of each node is kept from pods (reservedMemory). It has to come to
	// Kept, what the node keeps from pods of memory: systemReserved, kubeReserved and the hard
	// eviction threshold.
	Reserved []kubeletconfig.MemoryReservation
	Kept     apiresource.Quantity
	Root     string // the agent's directory, for the state's file
	// Gone reports whether nobody wants a pod any more: its memory counts as free. nil: no pod is
	// known to be.
	Gone    func(types.UID) bool
	Metrics prometheus.Registerer // nil: none
}

// Manager knows which container has its memory on which nodes. Safe for concurrent use.
type Manager struct {
	machine          machine
	file             string
	gone             func(types.UID) bool
	requests, errors prometheus.Counter

	mu       sync.Mutex
	assigned assignments // as in the file
}

// New continues with the state of an earlier agent, if there was one. It is an error if that is
// impossible: another policy, or more memory than the machine has by now. That the machine, or what
// is reserved of it, has changed a little is none, unlike to the kubelet: a kernel update does that,
// and what containers have is still there. A damaged file is moved aside (see durable.Load).
func New(cfg Config) (*Manager, error) {
	if len(cfg.Nodes) == 0 || cfg.Root == "" {
		return nil, errors.New("memorymanager: no Nodes or Root")
	}
	reserved, err := reservation(cfg.Nodes, cfg.Reserved, cfg.Kept)
	if err != nil {
		return nil, err
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Manager{
		machine: machine{cfg.Nodes, reserved}, file: filepath.Join(cfg.Root, FileName), gone: cfg.Gone,
		requests: counter("kubelet_memory_manager_pinning_requests_total", "The number of memory pages allocations which required pinning."),
		errors:   counter("kubelet_memory_manager_pinning_errors_total", "The number of memory pages allocations which required pinning that failed."),
	}
	if cfg.Metrics != nil {
		if err := errors.Join(cfg.Metrics.Register(m.requests), cfg.Metrics.Register(m.errors)); err != nil {
			return nil, err
		}
	}
	a, err := load(m.file, policyStatic)
	if err != nil {
		return nil, err
	}
	if _, err := m.machine.use(a); err != nil {
		return nil, useless(m.file, err)
	}
	klog.InfoS("Memory manager: Static policy", "numaNodes", cfg.Nodes.All(), "podsWithMemory", len(a))
	return m, m.put(a)
}

// reservation checks what is reserved on the nodes, and returns it in bytes.
func reservation(nodes numa.Nodes, list []kubeletconfig.MemoryReservation, kept apiresource.Quantity) (map[int]map[v1.ResourceName]uint64, error) {
	reserved, sums := map[int]map[v1.ResourceName]uint64{}, map[v1.ResourceName]apiresource.Quantity{v1.ResourceMemory: {}}
	// A node that has only CPUs, or whose memory is off line, has none.
	if !slices.ContainsFunc(nodes, func(n numa.Node) bool { return n.Memory > 0 }) {
		return nil, errors.New("the kernel does not say how much memory NUMA nodes have")
	}
	for _, r := range list {
		id := int(r.NumaNode)
		if !nodes.All().Has(id) {
			return nil, fmt.Errorf("the reserved memory configuration references a NUMA node %d that does not exist on this machine", id)
		}
		if reserved[id] == nil {
			reserved[id] = map[v1.ResourceName]uint64{}
		}
		for name, q := range r.Limits {
			if q.Sign() <= 0 || name != v1.ResourceMemory && !pods.IsHugePages(name) {
				return nil, fmt.Errorf("%s of %q cannot be reserved on NUMA node %d", q.String(), name, id)
			}
			reserved[id][name] += uint64(q.Value())
			sum := sums[name]
			sum.Add(q)
			sums[name] = sum
		}
	}
	for name, sum := range sums {
		whole := apiresource.Quantity{}
		if name == v1.ResourceMemory {
			whole = kept
		}
		if sum.Cmp(whole) != 0 {
			return nil, fmt.Errorf("the total amount %q of type %q is not equal to the value %q determined by Node Allocatable feature", sum.String(), name, whole.String())
		}
	}
	if kept.Sign() <= 0 {
		return nil, errors.New("you should specify the system reserved memory")
	}
	return reserved, nil
}

// put is called with the lock held, or by New.
func (m *Manager) put(a assignments) error {
	state, err := m.machine.use(a)
	if err != nil {
		return err
	}
	if err := save(m.file, state, a); err != nil {
		return err
	}
	m.assigned = a
	return nil
}

// Nodes returns the NUMA nodes of a container's memory in the form of cpuset.mems; empty: all.
func (m *Manager) Nodes(uid types.UID, container string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var nodes numa.Set
	for _, b := range m.assigned[uid][container] {
		nodes |= b.nodes()
	}
	return nodes.String()
}

// Memory returns the memory that a container has of certain nodes, in bytes; nil: none.
func (m *Manager) Memory(uid types.UID, container string) []Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.assigned[uid][container])
}

// AllocatableMemory returns what containers can have of each node and type, in bytes, whoever has it now, in order.
func (m *Manager) AllocatableMemory() (list []Block) {
	all := m.machine.empty()
	for _, id := range slices.Sorted(maps.Keys(all)) {
		for _, name := range slices.Sorted(maps.Keys(all[id].MemoryMap)) {
			if size := all[id].MemoryMap[name].Allocatable; size > 0 {
				list = append(list, Block{NUMAAffinity: []int{id}, Type: name, Size: size})
			}
		}
	}
	return list
}

// Release takes back the memory of a pod that has nothing running any more. Idempotent.
func (m *Manager) Release(uid types.UID) error {
	return m.release(func(u types.UID) bool { return u == uid })
}

// Orphans takes back the memory of pods that are gone. Plan and Commit wait while it asks, so a pod
// that becomes wanted before it is planned is never taken for gone.
func (m *Manager) Orphans(gone func(types.UID) bool) error { return m.release(gone) }

func (m *Manager) release(gone func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.assigned.without(gone)
	if maps.EqualFunc(next, m.assigned, func(_, _ map[string][]Block) bool { return true }) {
		return nil
	}
	return m.put(next)
}
