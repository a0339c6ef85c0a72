package cpumanager

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// system writes a topology as the kernel shows it, and returns its /sys/devices/system.
func system(t *testing.T, of Topology) string {
	t.Helper()
	files := map[string]string{"cpu/online": of.CPUs().String()}
	nodes := slices.Sorted(maps.Keys(of.sizes(numaNode)))
	for cpu, p := range of {
		dir := fmt.Sprintf("cpu/cpu%d/topology/", cpu)
		var threads []string
		for _, other := range of.CPUs().List() {
			if of[other].Core == p.Core {
				threads = append(threads, fmt.Sprint(other))
			}
		}
		files[dir+"thread_siblings_list"] = strings.Join(threads, ",")
		files[dir+"physical_package_id"] = fmt.Sprint(p.Socket)
	}
	for _, node := range nodes {
		dir := fmt.Sprintf("node/node%d/", node)
		files[dir+"cpulist"] = of.of(numa.Of(node)).String()
		distances := make([]string, len(nodes))
		for i, other := range nodes {
			distances[i] = fmt.Sprint(10 + 10*max(node-other, other-node))
		}
		files[dir+"distance"] = strings.Join(distances, " ")
		files[dir+"meminfo"] = fmt.Sprintf("Node %d MemTotal: 1048576 kB", node)
	}
	return sysfs(t, files)
}

func TestHints(t *testing.T) {
	two, four := machine(2, 1, 4, 1), machine(2, 2, 8, 1) // of 4 CPUs a node
	for name, tt := range map[string]struct {
		topology       Topology
		free, reusable string
		n              int
		want           string // sets of nodes, + preferred
	}{
		"either node":                     {two, "0-7", "", 4, "0+ 1+ 0-1"},
		"the node where enough are free":  {two, "2-7", "", 3, "1+ 0-1"},
		"both, since neither has enough":  {two, "2-5", "", 3, "0-1"},
		"both, since no node is so large": {two, "0-7", "", 5, "0-1+"},
		"more than are free":              {two, "2-7", "", 7, ""},
		"more than the machine has":       {two, "0-7", "", 9, ""},
		"with what is used again":         {two, "2-7", "0-1", 4, "0+ 0-1"},
		"two of four nodes":               {four, "0-15", "", 6, "0-1+ 0,2+ 1-2+ 0-2 0,3+ 1,3+ 0-1,3 2-3+ 0,2-3 1-3 0-3"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, h := range tt.topology.hints(set(t, tt.free), set(t, tt.reusable), tt.n) {
				text := h.Nodes.String()
				if h.Preferred {
					text += "+"
				}
				got = append(got, text)
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("hints %q, want %q", text, tt.want)
			}
		})
	}
}

func TestPodEntitled(t *testing.T) {
	for name, tt := range map[string]struct {
		pod  *v1.Pod
		want int
	}{
		"containers add up":                       {pod("p", container("a", "2"), container("b", "1")), 3},
		"what is shared does not count":           {pod("p", container("a", "2"), container("b", "500m")), 2},
		"an init container runs before them":      {withInit(pod("p", container("a", "2")), false, container("i", "3")), 3},
		"a sidecar beside them":                   {withInit(pod("p", container("a", "2")), true, container("s", "1")), 3},
		"an init container runs beside a sidecar": {withInit(withInit(pod("p", container("a", "1")), true, container("s", "2")), false, container("i", "3")), 5},
	} {
		if got := podEntitled(tt.pod); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

// aligned makes a manager of the CPUs of a machine and what admits pods to them.
func aligned(t *testing.T, root, system string, reserve string, cfg topologymanager.Config) (*Manager, *topologymanager.Manager) {
	t.Helper()
	topology, err := Discover(system)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Topology: topology, Reserved: resource.MustParse(reserve), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Nodes, err = numa.Discover(system); err != nil {
		t.Fatal(err)
	}
	cfg.Options, cfg.Providers = options.TopologyManager{MaxNodes: 8, PreferClosest: cfg.Options.PreferClosest}, []topologymanager.Provider{m}
	a, err := topologymanager.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m, a
}

const misplaced = "TopologyAffinityError: Resources cannot be allocated with Topology locality"

func TestCPUsOfOneNUMANode(t *testing.T) {
	two, four := machine(2, 1, 4, 1), machine(2, 2, 8, 1) // of 4 CPUs a node; CPU 0 is reserved
	const short = "UnexpectedAdmissionError: Allocate failed due to not enough cpus available to satisfy request: requested=%d, available=%d, which is unexpected"
	first := pod("first", container("c", "2"))   // on node 0 of two: 1 CPU is left there
	second := pod("second", container("c", "3")) // on node 1: 1 CPU is left there, too
	for name, tt := range map[string]struct {
		machine Topology
		scope   topologymanager.Scope
		before  []*v1.Pod
		pod     *v1.Pod
		want    map[string]string // by policy: containers and their CPUs, or the rejection
	}{
		"fits a node": {two, "", nil, pod("p", container("c", "4")), map[string]string{
			"none": "c:4-7", "best-effort": "c:4-7", "restricted": "c:4-7", "single-numa-node": "c:4-7"}},
		"fits none, since others are there": {two, "", []*v1.Pod{first, second}, pod("p", container("c", "2")), map[string]string{
			"none": "c:6-7", "best-effort": "c:3,7", "restricted": misplaced, "single-numa-node": misplaced}},
		"larger than any node": {two, "", nil, pod("p", container("c", "5")), map[string]string{
			"none": "c:1,4-7", "best-effort": "c:1,4-7", "restricted": "c:1,4-7", "single-numa-node": misplaced}},
		"more than are free": {two, "", []*v1.Pod{first, second}, pod("p", container("c", "3")), map[string]string{
			"none": fmt.Sprintf(short, 3, 2), "best-effort": fmt.Sprintf(short, 1, 0), "restricted": misplaced, "single-numa-node": misplaced}},
		"entitled to none": {two, "", []*v1.Pod{first, second}, pod("p", container("c", "500m")), map[string]string{
			"none": "", "best-effort": "", "restricted": "", "single-numa-node": ""}},
		"each container on a node of its own": {two, "container", nil, pod("p", container("a", "2"), container("b", "2")), map[string]string{
			"single-numa-node": "a:1-2 b:4-5", "restricted": "a:1-2 b:4-5"}},
		"all containers on one node": {two, "pod", nil, pod("p", container("a", "2"), container("b", "2")), map[string]string{
			"single-numa-node": "a:4-5 b:6-7", "restricted": "a:4-5 b:6-7"}},
		"containers that fit, but not on one node": {two, "pod", nil, pod("p", container("a", "3"), container("b", "2")), map[string]string{
			"single-numa-node": misplaced, "restricted": "a:1-3 b:4-5", "best-effort": "a:1-3 b:4-5"}},
		"an init container's CPUs serve again": {two, "", nil, withInit(pod("p", container("c", "3")), false, container("i", "2")), map[string]string{
			"single-numa-node": "c:1-3 i:1-2"}},
		"a container that would have to leave them": {two, "", nil, withInit(pod("p", container("c", "4")), false, container("i", "2")), map[string]string{
			"single-numa-node": misplaced, "best-effort": "c:4-7 i:1-2"}},
		"two of four nodes": {four, "", nil, pod("p", container("c", "8")), map[string]string{
			"restricted": "c:4-11", "single-numa-node": misplaced}},
	} {
		for policy, want := range tt.want {
			t.Run(name+", "+policy, func(t *testing.T) {
				m, a := aligned(t, t.TempDir(), system(t, tt.machine), "1", topologymanager.Config{Policy: policy, Scope: tt.scope})
				for _, p := range tt.before {
					if err := a.Allocate(p); err != nil {
						t.Fatal(err)
					}
				}
				before := m.state
				checked, got := rejected(a.Check(tt.pod)), rejected(a.Allocate(tt.pod))
				if checked != got {
					t.Errorf("checked %q, but allocated %q", checked, got)
				}
				if got == "" {
					got = given(t, m.state, "p")
				}
				if want := normal(t, want); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if err := a.Release("p"); err != nil || !m.state.shared.Equals(before.shared) || len(m.state.assigned) != len(before.assigned) {
					t.Errorf("after the release: %v, %v, %v", m.state.shared, m.state.assigned, err)
				}
			})
		}
	}
}

func rejected(err error) string {
	var r *pods.Rejection
	switch {
	case errors.As(err, &r):
		return r.Reason + ": " + r.Message
	case err != nil:
		return "no rejection: " + err.Error()
	}
	return ""
}

// normal writes the CPUs of containers as the kernel does: 1-3,4-5 is 1-5.
func normal(t *testing.T, containers string) string {
	t.Helper()
	if strings.Contains(containers, ": ") {
		return containers
	}
	list := strings.Fields(containers)
	for i, c := range list {
		name, cpus, _ := strings.Cut(c, ":")
		list[i] = name + ":" + set(t, cpus).String()
	}
	return strings.Join(list, " ")
}

func TestCPUsOfPodsThatAreGoneAreNearby(t *testing.T) {
	m, a := aligned(t, t.TempDir(), system(t, machine(2, 1, 4, 1)), "1", topologymanager.Config{Policy: topologymanager.SingleNUMANode})
	for _, p := range []*v1.Pod{pod("first", container("c", "3")), pod("second", container("c", "2"))} {
		if err := a.Allocate(p); err != nil {
			t.Fatal(err)
		}
	}
	third := pod("third", container("c", "3"))
	if got := rejected(a.Check(third)); got != misplaced {
		t.Errorf("while both are there: %q", got)
	}
	m.gone = func(uid types.UID) bool { return uid == "second" }
	if err := errors.Join(a.Check(third), a.Allocate(third)); err != nil {
		t.Fatal(err)
	}
	wantCPUs(t, m, "third", "c", "4-6", true)
	wantCPUs(t, m, "second", "c", "0,7", false)
}

func TestAPodThatRunsIsNotTurnedAwayByAnotherPolicy(t *testing.T) {
	root, sys := t.TempDir(), system(t, machine(2, 1, 4, 1))
	_, a := aligned(t, root, sys, "1", topologymanager.Config{Policy: topologymanager.BestEffort})
	wide := pod("wide", container("c", "5"))
	if err := a.Allocate(wide); err != nil {
		t.Fatal(err)
	}
	// What is on record stays, whatever the policy.
	m, a := aligned(t, root, sys, "1", topologymanager.Config{Policy: topologymanager.SingleNUMANode})
	if err := a.Allocate(wide); err != nil {
		t.Error(err)
	}
	wantCPUs(t, m, "wide", "c", "1,4-7", true)
	// Without a record, a pod that runs has CPUs of its own, and one that does not is judged.
	m, a = aligned(t, t.TempDir(), sys, "1", topologymanager.Config{Policy: topologymanager.SingleNUMANode})
	if got := rejected(a.Allocate(wide)); got != misplaced {
		t.Errorf("before it runs: %q", got)
	}
	if err := a.Restore(wide); err != nil {
		t.Error(err)
	}
	wantCPUs(t, m, "wide", "c", "1,4-7", true)
}

func TestCPUsBoundElsewhereThanTheSpecSays(t *testing.T) {
	m, a := aligned(t, t.TempDir(), system(t, machine(2, 1, 4, 1)), "1", topologymanager.Config{Policy: topologymanager.Restricted})
	if err := a.Allocate(pod("p", container("c", "2"))); err != nil {
		t.Fatal(err)
	}
	plan := m.Plan(pod("p", container("c", "3")))
	want := topologymanager.Hints{"cpu": {}}
	if got := plan.Hints(&pod("p", container("c", "3")).Spec.Containers[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("hints %v", got)
	}
	if got := plan.PodHints(); !reflect.DeepEqual(got, want) {
		t.Errorf("hints of the pod %v", got)
	}
}

func TestDiscoverReadsWhatSystemWrites(t *testing.T) {
	for _, want := range []Topology{machine(2, 1, 4, 2), machine(2, 2, 8, 1)} {
		got, err := Discover(filepath.Clean(system(t, want)))
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("Discover = %v, %v; want %v", got, err, want)
		}
	}
}
