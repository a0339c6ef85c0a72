package cpumanager

import (
	"errors"
	"fmt"
	"maps"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// state records which container has which CPUs. It is immutable: decisions return a
// new one.
type state struct {
	shared   cpuset.CPUSet // for all containers without CPUs of their own
	assigned map[types.UID]map[string]cpuset.CPUSet
}

// exclusive are the CPUs that containers have to themselves.
func (s state) exclusive() cpuset.CPUSet {
	all := cpuset.New()
	for _, containers := range s.assigned {
		for _, cpus := range containers {
			all = all.Union(cpus)
		}
	}
	return all
}

// misaligned is the kubelet's rejection of a pod whose CPUs cannot be whole cores.
func misaligned(format string, args ...any) *pods.Rejection {
	return &pods.Rejection{Reason: "SMTAlignmentError", Message: "SMT Alignment Error: " + fmt.Sprintf(format, args...)}
}

// policy is what does not change while the agent runs.
type policy struct {
	topology Topology
	options  options.CPUManager
	reserved cpuset.CPUSet // never given to one container alone
}

// newPolicy reserves the named CPUs, or as many as are reserved, rounded up, from
// the first cores.
func newPolicy(t Topology, named cpuset.CPUSet, amount apiresource.Quantity, o options.CPUManager) (policy, error) {
	if amount.Sign() <= 0 {
		return policy{}, errors.New("the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")
	}
	p := policy{topology: t, options: o, reserved: named}
	n := int(amount.Value()) // rounded up
	if named.IsEmpty() {
		p.reserved, _ = p.take(t.CPUs(), n)
	}
	if p.reserved.Size() != n {
		return policy{}, fmt.Errorf("unable to reserve the required amount of CPUs (size of %s did not equal %d)", p.reserved, n)
	}
	if !p.reserved.IsSubsetOf(t.CPUs()) {
		return policy{}, fmt.Errorf("reserved CPUs %s are not a subset of online CPUs %s", p.reserved, t.CPUs())
	}
	return p, nil
}

// all returns the CPUs that the state accounts for.
func (p policy) all() cpuset.CPUSet {
	if p.options.StrictReservation {
		return p.topology.CPUs().Difference(p.reserved)
	}
	return p.topology.CPUs()
}

func (p policy) initial() state {
	return state{shared: p.all(), assigned: map[types.UID]map[string]cpuset.CPUSet{}}
}

// check returns what makes the state of an earlier agent unusable: another
// reservation, other CPUs, or contradictions.
func (p policy) check(s state) error {
	kept := p.reserved.Intersection(s.shared)
	switch {
	case s.shared.IsEmpty():
		return errors.New("default cpuset cannot be empty")
	case p.options.StrictReservation && !kept.IsEmpty():
		return fmt.Errorf("some of strictly reserved cpus: %q are present in defaultCpuSet: %q", kept, s.shared)
	case !p.options.StrictReservation && !kept.Equals(p.reserved):
		return fmt.Errorf("not all reserved cpus: %q are present in defaultCpuSet: %q", p.reserved, s.shared)
	}
	known := s.shared
	for uid, containers := range s.assigned {
		for name, cpus := range containers {
			if !s.shared.Intersection(cpus).IsEmpty() {
				return fmt.Errorf("pod: %s, container: %s cpuset: %q overlaps with default cpuset %q", uid, name, cpus, s.shared)
			}
			known = known.Union(cpus)
		}
	}
	if !known.Equals(p.all()) {
		return fmt.Errorf("current set of available CPUs %q doesn't match with CPUs in state %q", p.all(), known)
	}
	return nil
}

// draft is what one pod is going to have, on a state that it leaves as it is. Containers get the
// CPUs that they are entitled to and do not have yet, in their order: they reuse the CPUs of the
// init containers before them, which have ended by then, but not those of sidecars.
type draft struct {
	policy
	pod      *v1.Pod
	before   state
	has      map[string]cpuset.CPUSet // containers, and what they had or are given
	shared   cpuset.CPUSet
	reusable cpuset.CPUSet
}

func (p policy) draft(s state, pod *v1.Pod) *draft {
	has := maps.Clone(s.assigned[pod.UID])
	if has == nil {
		has = map[string]cpuset.CPUSet{}
	}
	return &draft{policy: p, pod: pod, before: s, has: has, shared: s.shared, reusable: cpuset.New()}
}

// give adds what the container is entitled to, from the given NUMA nodes as far as it goes; empty:
// from any. n is how many CPUs it gets now.
func (d *draft) give(kind pods.ContainerKind, c *v1.Container, nodes numa.Set) (n int, err error) {
	n = entitled(d.pod, c)
	if n == 0 {
		return 0, nil
	}
	cpus, had := d.has[c.Name]
	if !had {
		if err := d.aligned(d.shared.Union(d.reusable), n); err != nil {
			return n, err
		}
		if cpus, err = d.takeFrom(nodes, d.free(), n); err != nil {
			return n, err
		}
	}
	d.has[c.Name] = cpus
	d.shared = d.shared.Difference(cpus)
	if kind == pods.InitContainer {
		d.reusable = d.reusable.Union(cpus)
	} else {
		d.reusable = d.reusable.Difference(cpus)
	}
	if had {
		n = 0
	}
	return n, nil
}

// free are the CPUs that the next container may be given.
func (d *draft) free() cpuset.CPUSet { return d.shared.Difference(d.reserved).Union(d.reusable) }

// on returns the state with the draft in it. Since the draft was begun, CPUs may have been taken
// back, but not given.
func (d *draft) on(s state) state {
	next := state{shared: s.shared, assigned: maps.Clone(s.assigned)}
	next.assigned[d.pod.UID] = d.has
	for _, cpus := range d.has {
		next.shared = next.shared.Difference(cpus)
	}
	return next
}

// takeFrom takes as many CPUs as there are from the NUMA nodes, and the rest from elsewhere.
func (p policy) takeFrom(nodes numa.Set, free cpuset.CPUSet, n int) (cpuset.CPUSet, error) {
	near := cpuset.New()
	if nodes != 0 {
		near = free.Intersection(p.topology.of(nodes))
	}
	first, err := p.take(near, min(n, near.Size()))
	if err != nil {
		return cpuset.New(), err
	}
	rest, err := p.take(free.Difference(first), n-first.Size())
	return first.Union(rest), err
}

// take picks CPUs as the options say.
func (p policy) take(free cpuset.CPUSet, n int) (cpuset.CPUSet, error) {
	switch {
	case !p.options.Distribute:
		return p.topology.take(free, n)
	case p.options.FullCores:
		return p.topology.distribute(free, n, p.topology.threadsPerCore())
	}
	return p.topology.distribute(free, n, 1)
}

// aligned returns why n CPUs cannot be whole cores, if they have to be. Cores with
// a reserved CPU are not available.
func (p policy) aligned(available cpuset.CPUSet, n int) error {
	if !p.options.FullCores {
		return nil
	}
	threads := p.topology.threadsPerCore()
	if n%threads != 0 {
		return misaligned("requested %d cpus not multiple cpus per core = %d", n, threads)
	}
	if whole := available.Difference(p.topology.wholeCores(p.reserved)).Size(); n > whole {
		return misaligned("not enough free physical CPUs: available physical CPUs = %d, requested CPUs = %d, CPUs per core = %d", whole, n, threads)
	}
	return nil
}

// release takes back the CPUs of pods that are gone.
func (s state) release(gone func(types.UID) bool) state {
	next := state{shared: s.shared, assigned: map[types.UID]map[string]cpuset.CPUSet{}}
	for uid, containers := range s.assigned {
		if !gone(uid) {
			next.assigned[uid] = containers
			continue
		}
		for _, cpus := range containers {
			next.shared = next.shared.Union(cpus)
		}
	}
	return next
}

// entitled is how many CPUs the container gets to itself: those that it requests,
// if it requests whole CPUs and the pod is Guaranteed. Pods with resources of their
// own are served only by PodLevelResourceManagers, which is off by default.
func entitled(pod *v1.Pod, c *v1.Container) int {
	if resource.IsPodLevelResourcesSet(pod) || pods.QOSClass(pod) != v1.PodQOSGuaranteed {
		return 0
	}
	cpus, ok := c.Resources.Requests[v1.ResourceCPU]
	if !ok {
		cpus = c.Resources.Limits[v1.ResourceCPU]
	}
	if cpus.Value()*1000 != cpus.MilliValue() {
		return 0
	}
	return int(cpus.Value())
}
