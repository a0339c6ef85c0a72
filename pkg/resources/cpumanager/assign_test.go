package cpumanager

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// container requests CPUs and memory, with equal limits.
func container(name, cpus string) v1.Container {
	list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpus), v1.ResourceMemory: resource.MustParse("64Mi")}
	return v1.Container{Name: name, Resources: v1.ResourceRequirements{Requests: list, Limits: list}}
}

func pod(uid types.UID, containers ...v1.Container) *v1.Pod {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: containers}}
	p.UID = uid
	return p
}

func withInit(p *v1.Pod, sidecar bool, c v1.Container) *v1.Pod {
	if sidecar {
		c.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
	}
	p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	return p
}

func given(t *testing.T, s state, uid types.UID) string {
	t.Helper()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.assigned[uid])) {
		all = append(all, fmt.Sprintf("%s:%s", name, s.assigned[uid][name]))
	}
	return strings.Join(all, " ")
}

// assign gives the pod its CPUs, from any NUMA nodes.
func assign(p policy, s state, pod *v1.Pod) (state, error) {
	d := p.draft(s, pod)
	for kind, c := range pods.Containers(pod) {
		if _, err := d.give(kind, c, 0); err != nil {
			return s, err
		}
	}
	return d.on(s), nil
}

func TestNewPolicyReserves(t *testing.T) {
	for name, tt := range map[string]struct {
		named, amount string
		want          string // reserved CPUs, or the error
	}{
		"whole cores from the first":   {"", "2", "0,4"},
		"rounded up":                   {"", "1500m", "0,4"},
		"less than one":                {"", "100m", "0"},
		"named":                        {"3,7", "2", "3,7"},
		"none":                         {"", "0", "the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero"},
		"more than there are":          {"", "9", "unable to reserve the required amount of CPUs (size of  did not equal 9)"},
		"named that are not there":     {"7-8", "2", "reserved CPUs 7-8 are not a subset of online CPUs 0-7"},
		"named fewer than are counted": {"0", "2", "unable to reserve the required amount of CPUs (size of 0 did not equal 2)"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := newPolicy(machine(1, 1, 4, 2), set(t, tt.named), resource.MustParse(tt.amount), options.CPUManager{})
			got := p.reserved.String()
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("reserved %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAssign(t *testing.T) {
	onHT := func(o options.CPUManager) policy { // reserves 0 and 4, core 0
		p, err := newPolicy(machine(1, 1, 4, 2), cpuset.New(), resource.MustParse("2"), o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	plain, full := onHT(options.CPUManager{}), onHT(options.CPUManager{FullCores: true})
	one := full
	one.reserved = cpuset.New(0) // half a core
	burstable := container("c", "1")
	delete(burstable.Resources.Limits, v1.ResourceMemory)
	podLevel := pod("p", container("c", "1"))
	podLevel.Spec.Resources = ptr.To(podLevel.Spec.Containers[0].Resources)
	limitsOnly := container("c", "2")
	limitsOnly.Resources.Requests = nil
	for name, tt := range map[string]struct {
		policy policy
		before string // CPUs that another pod has
		pod    *v1.Pod
		want   string // containers and their CPUs
		shared string
		refuse string // the error, with the reason of a rejection
	}{
		"a whole core":         {plain, "", pod("p", container("c", "2")), "c:1,5", "0,2-4,6-7", ""},
		"two containers":       {plain, "", pod("p", container("a", "1"), container("b", "3")), "a:1 b:2,5-6", "0,3-4,7", ""},
		"requests by limits":   {plain, "", pod("p", limitsOnly), "c:1,5", "0,2-4,6-7", ""},
		"no whole CPUs":        {plain, "", pod("p", container("c", "1500m")), "", "0-7", ""},
		"some whole, some not": {plain, "", pod("p", container("a", "500m"), container("b", "1")), "b:1", "0,2-7", ""},
		"not Guaranteed":       {plain, "", pod("p", burstable), "", "0-7", ""},
		"pod-level resources":  {plain, "", podLevel, "", "0-7", ""},
		"never the reserved":   {plain, "", pod("p", container("c", "6")), "c:1-3,5-7", "0,4", ""},
		"all or none": {plain, "", pod("p", container("a", "4"), container("b", "3")), "", "0-7",
			"not enough cpus available to satisfy request: requested=3, available=2"},
		"what others have": {plain, "1-3,5-6", pod("p", container("c", "2")), "", "0,4,7",
			"not enough cpus available to satisfy request: requested=2, available=1"},
		"an init container's CPUs serve again": {plain, "", withInit(pod("p", container("c", "6")), false, container("i", "4")), "c:1-3,5-7 i:1-2,5-6", "0,4", ""},
		"those of a sidecar do not": {plain, "", withInit(pod("p", container("c", "6")), true, container("s", "1")), "", "0-7",
			"not enough cpus available to satisfy request: requested=6, available=5"},
		"a sidecar after an init container": {plain, "",
			withInit(withInit(pod("p", container("c", "2")), false, container("i", "6")), true, container("s", "4")), "c:3,7 i:1-3,5-7 s:1-2,5-6", "0,4", ""},
		"full cores":             {full, "", pod("p", container("c", "4")), "c:1-2,5-6", "0,3-4,7", ""},
		"not a multiple of them": {full, "", pod("p", container("c", "3")), "", "0-7", "SMTAlignmentError: SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"},
		"cores that are half reserved are not free": {one, "1-2,5-6", pod("p", container("c", "4")), "", "0,3-4,7",
			"SMTAlignmentError: SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 2, requested CPUs = 4, CPUs per core = 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tt.policy.initial()
			if tt.before != "" {
				s.assigned["other"] = map[string]cpuset.CPUSet{"c": set(t, tt.before)}
				s.shared = s.shared.Difference(set(t, tt.before))
			}
			next, err := assign(tt.policy, s, tt.pod)
			var r *pods.Rejection
			text := ""
			switch {
			case errors.As(err, &r):
				text = r.Reason + ": " + r.Message
			case err != nil:
				text = err.Error()
			}
			if text != tt.refuse {
				t.Errorf("refused %q, want %q", text, tt.refuse)
			}
			if got := given(t, next, "p"); got != tt.want || next.shared.String() != tt.shared {
				t.Errorf("assigned %q and shared %s, want %q and %s", got, next.shared, tt.want, tt.shared)
			}
			if err != nil {
				return
			}
			if err := tt.policy.check(next); err != nil {
				t.Errorf("the state contradicts itself: %v", err)
			}
			// Again, as after a restart of the agent: nothing else.
			if again, err := assign(tt.policy, next, tt.pod); err != nil || given(t, again, "p") != tt.want || !again.shared.Equals(next.shared) {
				t.Errorf("again: %q, %v", given(t, again, "p"), err)
			}
			freed := next.release(func(uid types.UID) bool { return uid == "p" })
			if !freed.shared.Equals(s.shared) || len(freed.assigned) != len(s.assigned) {
				t.Errorf("shared after the release %s, before %s", freed.shared, s.shared)
			}
		})
	}
}

func TestStrictReservationKeepsThemOutOfTheShared(t *testing.T) {
	p, err := newPolicy(machine(1, 1, 4, 2), cpuset.New(), resource.MustParse("2"), options.CPUManager{StrictReservation: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := assign(p, p.initial(), pod("p", container("c", "2")))
	if err != nil || s.shared.String() != "2-3,6-7" {
		t.Errorf("shared %s, %v; want 2-3,6-7", s.shared, err)
	}
	if err := p.check(s); err != nil {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	at := func(o options.CPUManager) policy {
		p, err := newPolicy(machine(1, 1, 4, 1), cpuset.New(), resource.MustParse("1"), o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	loose, strict := at(options.CPUManager{}), at(options.CPUManager{StrictReservation: true})
	for name, tt := range map[string]struct {
		policy     policy
		shared, of string
		want       string
	}{
		"good":                    {loose, "0,2-3", "1", ""},
		"no shared ones":          {loose, "", "0-3", "default cpuset cannot be empty"},
		"the reserved ones taken": {loose, "1-3", "0", `not all reserved cpus: "0" are present in defaultCpuSet: "1-3"`},
		"both shared and taken":   {loose, "0-3", "1", `pod: p, container: c cpuset: "1" overlaps with default cpuset "0-3"`},
		"a CPU that went":         {loose, "0,2-4", "1", `current set of available CPUs "0-3" doesn't match with CPUs in state "0-4"`},
		"a CPU that came":         {loose, "0,2", "1", `current set of available CPUs "0-3" doesn't match with CPUs in state "0-2"`},
		"strict":                  {strict, "2-3", "1", ""},
		"strict now, not before":  {strict, "0,2-3", "1", `some of strictly reserved cpus: "0" are present in defaultCpuSet: "0,2-3"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := state{shared: set(t, tt.shared), assigned: map[types.UID]map[string]cpuset.CPUSet{"p": {"c": set(t, tt.of)}}}
			got := ""
			if err := tt.policy.check(s); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("check = %q, want %q", got, tt.want)
			}
		})
	}
}
