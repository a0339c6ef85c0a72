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
)

// state records which container has which CPUs. It is immutable: decisions return a
// new one.
type state struct {
	shared   cpuset.CPUSet // for all containers without CPUs of their own
	assigned map[types.UID]map[string]cpuset.CPUSet
}

// unexpected is the kubelet's message for what it does not expect at admission: the scheduler
// should not have sent the pod.
func unexpected(err error) *pods.Rejection {
	return &pods.Rejection{Reason: "UnexpectedAdmissionError", Message: fmt.Sprintf("Allocate failed due to %v, which is unexpected", err)}
}

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
		p.reserved, _ = t.take(t.CPUs(), n)
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

// assign gives the pod's containers the CPUs that they are entitled to and do not
// have yet: either to all of them, or to none with a *pods.Rejection. Containers reuse the
// CPUs of the init containers before them, which have ended by then, but not those
// of sidecars.
func (p policy) assign(s state, pod *v1.Pod) (state, error) {
	had := s.assigned[pod.UID]
	has := maps.Clone(had)
	if has == nil {
		has = map[string]cpuset.CPUSet{}
	}
	shared, reusable := s.shared, cpuset.New()
	give := func(c *v1.Container, ends bool) error {
		n := entitled(pod, c)
		if n == 0 {
			return nil
		}
		cpus, ok := has[c.Name]
		if !ok {
			if err := p.aligned(shared.Union(reusable), n); err != nil {
				return err
			}
			var err error
			if cpus, err = p.topology.take(shared.Difference(p.reserved).Union(reusable), n); err != nil {
				return unexpected(err)
			}
		}
		has[c.Name] = cpus
		shared = shared.Difference(cpus)
		if ends {
			reusable = reusable.Union(cpus)
		} else {
			reusable = reusable.Difference(cpus)
		}
		return nil
	}
	for kind, c := range pods.Containers(pod) {
		if err := give(c, kind == pods.InitContainer); err != nil {
			return s, err
		}
	}
	if len(has) == len(had) {
		return s, nil
	}
	next := state{shared: shared, assigned: maps.Clone(s.assigned)}
	next.assigned[pod.UID] = has
	return next, nil
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
