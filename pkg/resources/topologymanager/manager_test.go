package topologymanager

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// slots is a provider that has one slot on each of its nodes, and gives each container one.
type slots struct {
	on       numa.Set
	taken    map[types.UID]map[string]numa.Set
	failing  error // what Commit returns
	released int
}

func (s *slots) Plan(pod *v1.Pod) Plan {
	return &slotPlan{slots: s, pod: pod, has: map[string]numa.Set{}}
}

func (s *slots) Release(uid types.UID) error {
	s.released++
	delete(s.taken, uid)
	return nil
}

func (s *slots) Orphans(func(types.UID) bool) error { return nil }

func (s *slots) free() numa.Set {
	free := s.on
	for _, containers := range s.taken {
		for _, nodes := range containers {
			free &^= nodes
		}
	}
	return free
}

type slotPlan struct {
	*slots
	pod *v1.Pod
	has map[string]numa.Set
}

func (p *slotPlan) left() numa.Set {
	left := p.free()
	for _, nodes := range p.has {
		left &^= nodes
	}
	return left
}

func (p *slotPlan) Complete() bool { return len(p.taken[p.pod.UID]) == len(p.pod.Spec.Containers) }

func (p *slotPlan) hints(n int) Hints {
	list := []Hint{}
	for nodes := range p.on.Subsets() {
		if (nodes & p.left()).Len() >= n {
			list = append(list, Hint{nodes, nodes.Len() == n})
		}
	}
	return Hints{"slots": list}
}

func (p *slotPlan) Hints(*v1.Container) Hints { return p.hints(1) }
func (p *slotPlan) PodHints() Hints           { return p.hints(len(p.pod.Spec.Containers)) }

func (p *slotPlan) Give(_ pods.ContainerKind, c *v1.Container, nodes numa.Set) error {
	for _, from := range []numa.Set{p.left() & nodes, p.left()} {
		if from != 0 {
			p.has[c.Name] = numa.Of(from.Nodes()[0])
			return nil
		}
	}
	return errors.New("no slot is left")
}

func (p *slotPlan) Commit() error {
	if p.failing == nil {
		p.taken[p.pod.UID] = p.has
	}
	return p.failing
}

func with(uid types.UID, containers ...string) *v1.Pod {
	p := &v1.Pod{}
	p.UID = uid
	for _, name := range containers {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: name})
	}
	return p
}

func newManager(t *testing.T, cfg Config, providers ...*slots) (*Manager, *prometheus.Registry) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	alignment, err := NewAlignment(r)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Alignment, cfg.Metrics, cfg.Options.MaxNodes = alignment, r, 8
	if cfg.Nodes == nil {
		cfg.Nodes = nodes(4)
	}
	for _, p := range providers {
		p.taken = map[types.UID]map[string]numa.Set{}
		cfg.Providers = append(cfg.Providers, p)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m, r
}

func TestProvidersGiveFromTheSameNode(t *testing.T) {
	for name, tt := range map[string]struct {
		policy, want string
	}{
		"as they see fit":      {None, "0 1"},
		"together":             {BestEffort, "1 1"},
		"together, restricted": {Restricted, "1 1"},
		"together, single":     {SingleNUMANode, "1 1"},
	} {
		a, b := &slots{on: numa.Of(0, 1)}, &slots{on: numa.Of(1, 2)}
		m, _ := newManager(t, Config{Policy: tt.policy}, a, b)
		if err := errors.Join(m.Check(with("p", "c")), m.Allocate(with("p", "c"))); err != nil {
			t.Fatal(err)
		}
		if got := a.taken["p"]["c"].String() + " " + b.taken["p"]["c"].String(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestNothingIsGivenUnlessAllIs(t *testing.T) {
	a, b := &slots{on: numa.Of(0, 1)}, &slots{on: numa.Of(2)}
	m, r := newManager(t, Config{Policy: SingleNUMANode}, a, b)
	for _, judge := range []func(*v1.Pod) error{m.Check, m.Allocate} {
		var rejection *pods.Rejection
		if err := judge(with("p", "c")); !errors.As(err, &rejection) || rejection.Reason != "TopologyAffinityError" || rejection.Message != "Resources cannot be allocated with Topology locality" {
			t.Errorf("judged %v", err)
		}
	}
	if len(a.taken)+len(b.taken) != 0 {
		t.Errorf("taken %v and %v", a.taken, b.taken)
	}
	if err := m.Release("p"); err != nil || a.released != 1 || b.released != 1 {
		t.Errorf("released %d and %d times, %v", a.released, b.released, err)
	}
	want := `
# HELP kubelet_container_aligned_compute_resources_failure_count Cumulative number of failures to allocate aligned compute resources to containers by alignment type.
# TYPE kubelet_container_aligned_compute_resources_failure_count counter
kubelet_container_aligned_compute_resources_failure_count{boundary="numa_node",scope="container"} 2
kubelet_container_aligned_compute_resources_failure_count{boundary="numa_node",scope="pod"} 0
# HELP kubelet_topology_manager_admission_errors_total The number of admission request failures where resources could not be aligned.
# TYPE kubelet_topology_manager_admission_errors_total counter
kubelet_topology_manager_admission_errors_total 1
# HELP kubelet_topology_manager_admission_requests_total The number of admission requests where resources have to be aligned.
# TYPE kubelet_topology_manager_admission_requests_total counter
kubelet_topology_manager_admission_requests_total 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "kubelet_container_aligned_compute_resources_failure_count",
		"kubelet_topology_manager_admission_errors_total", "kubelet_topology_manager_admission_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestScopes(t *testing.T) {
	for name, tt := range map[string]struct {
		policy string
		scope  Scope
		want   string // containers and their nodes, or the rejection
		count  string // of aligned resources, for the scopes container and pod
	}{
		"each container for itself": {SingleNUMANode, ContainerScope, "a:0 b:1", "2 0"},
		"the pod as a whole":        {SingleNUMANode, PodScope, "TopologyAffinityError", "0 0"},
		"the pod on two nodes":      {Restricted, PodScope, "a:0 b:1", "0 0"},
	} {
		s := &slots{on: numa.Of(0, 1, 3)}
		m, _ := newManager(t, Config{Policy: tt.policy, Scope: tt.scope}, s)
		err := m.Allocate(with("p", "a", "b"))
		got := fmt.Sprintf("a:%s b:%s", s.taken["p"]["a"], s.taken["p"]["b"])
		var r *pods.Rejection
		if errors.As(err, &r) {
			got = r.Reason
		}
		count := fmt.Sprint(testutil.ToFloat64(m.alignment.granted.WithLabelValues("container", "numa_node")), testutil.ToFloat64(m.alignment.granted.WithLabelValues("pod", "numa_node")))
		if got != tt.want || count != tt.count {
			t.Errorf("%s: %s (counted %s), want %s (%s)", name, got, count, tt.want, tt.count)
		}
	}
}

func TestAProviderThatHasTooLittleRejects(t *testing.T) {
	m, _ := newManager(t, Config{Policy: None}, &slots{})
	var r *pods.Rejection
	if err := m.Allocate(with("p", "c")); !errors.As(err, &r) || r.Reason != "UnexpectedAdmissionError" || r.Message != "Allocate failed due to no slot is left, which is unexpected" {
		t.Errorf("Allocate = %v", err)
	}
}

// Of two records the first is written, and the disk is full for the second.
func TestARecordThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	first, second := &slots{on: numa.Of(0, 1)}, &slots{on: numa.Of(0, 1), failing: errors.New("no space left on device")}
	m, _ := newManager(t, Config{Policy: SingleNUMANode}, first, second)
	var r *pods.Rejection
	if err := m.Allocate(with("p", "c")); err == nil || errors.As(err, &r) {
		t.Errorf("a full disk: %v, want an error that is no rejection", err)
	}
	second.failing = nil
	if err := m.Allocate(with("p", "c")); err != nil || first.taken["p"]["c"] != second.taken["p"]["c"] {
		t.Errorf("with room again: %v, %v and %v", err, first.taken, second.taken)
	}
}

func TestNewRefusesMachinesThatItCannotServe(t *testing.T) {
	far := nodes(2)
	far[1].Distances = nil
	for name, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"too many nodes":          {Config{Policy: Restricted, Nodes: nodes(9), Options: options.TopologyManager{MaxNodes: 8}}, "unsupported on machines with more than 8 NUMA Nodes"},
		"as many as may be":       {Config{Policy: Restricted, Nodes: nodes(9), Options: options.TopologyManager{MaxNodes: 9}}, ""},
		"no policy, many nodes":   {Config{Policy: None, Nodes: nodes(20)}, ""},
		"no distances":            {Config{Policy: BestEffort, Nodes: far, Options: options.TopologyManager{MaxNodes: 8, PreferClosest: true}}, "the kernel does not say how far NUMA node 1 is"},
		"distances do not matter": {Config{Policy: BestEffort, Nodes: far, Options: options.TopologyManager{MaxNodes: 8}}, ""},
		"no such policy":          {Config{Policy: "some"}, `unknown topologyManagerPolicy "some"`},
	} {
		_, err := New(tt.cfg)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
