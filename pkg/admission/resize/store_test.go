package resize

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

func cpus(amount string) v1.ResourceList {
	return v1.ResourceList{v1.ResourceCPU: resource.MustParse(amount)}
}

func asking(uid types.UID, cpu string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: v1.PodSpec{Containers: []v1.Container{
		{Name: "c", Resources: v1.ResourceRequirements{Requests: cpus(cpu)}},
	}}}
}

func has(t *testing.T, pod *v1.Pod, cpu string) {
	t.Helper()
	if got := pod.Spec.Containers[0].Resources.Requests.Cpu().String(); got != cpu {
		t.Errorf("the pod has %s CPUs, want %s", got, cpu)
	}
}

func TestDecide(t *testing.T) {
	node := v1.ResourceList{v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("1Gi")}
	ending := asking("ending", "4") // and not stopped yet, or it would not be among the others
	ending.Status.Phase = v1.PodFailed
	for name, tt := range map[string]struct {
		pod    *v1.Pod
		others []*v1.Pod
		want   *Pending
	}{
		"room":                            {asking("a", "2"), []*v1.Pod{asking("b", "2")}, nil},
		"no room now":                     {asking("a", "3"), []*v1.Pod{asking("b", "2")}, &Pending{"Deferred", "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"}},
		"more than there ever is":         {asking("a", "5"), []*v1.Pod{asking("b", "2")}, &Pending{"Infeasible", "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"}},
		"it does not compete with itself": {asking("a", "4"), []*v1.Pod{asking("a", "2")}, nil},
		"what is stopped has what it has": {asking("a", "4"), []*v1.Pod{ending}, &Pending{"Deferred", "Node didn't have enough resource: cpu, requested: 4000, used: 4000, capacity: 4000"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := decide(tt.pod, tt.others, node)
			if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWhatAGuaranteedPodHasToItselfIsNotChanged(t *testing.T) {
	guaranteed := func(uid types.UID, cpu, memory string) *v1.Pod {
		p := asking(uid, cpu)
		list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: list, Limits: list}
		return p
	}
	for name, tt := range map[string]struct {
		cpus, memory bool // a static policy
		old, new     *v1.Pod
		refused      string
	}{
		"other CPUs":                          {true, false, guaranteed("a", "1", "1Gi"), guaranteed("a", "2", "1Gi"), `CPU Manager policy "static"`},
		"not whole ones":                      {true, true, guaranteed("a", "1500m", "1Gi"), guaranteed("a", "1200m", "1Gi"), `CPU Manager policy "static"`},
		"other memory":                        {true, false, guaranteed("a", "1", "1Gi"), guaranteed("a", "1", "2Gi"), ""},
		"other memory of certain nodes":       {true, true, guaranteed("a", "1", "1Gi"), guaranteed("a", "1", "2Gi"), `Memory Manager policy "Static"`},
		"other CPUs, memory of certain nodes": {false, true, guaranteed("a", "1", "1Gi"), guaranteed("a", "2", "1Gi"), ""},
		"not Guaranteed":                      {true, true, asking("a", "1"), asking("a", "2"), ""},
		"with no such policy":                 {false, false, guaranteed("a", "1", "1Gi"), guaranteed("a", "2", "2Gi"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(Config{
				Dir: t.TempDir(), StaticCPUs: tt.cpus, StaticMemory: tt.memory, Freed: func([]types.UID) {},
				Allocatable: func() v1.ResourceList {
					return v1.ResourceList{v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("8Gi")}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, pending, _, err := s.Allocate(tt.old, alone); pending != nil || err != nil {
				t.Fatal(pending, err)
			}
			_, pending, changed, err := s.Allocate(tt.new, alone)
			if err != nil || changed == (tt.refused != "") || (pending != nil) != (tt.refused != "") {
				t.Fatalf("pending %v, changed %t, %v", pending, changed, err)
			}
			if tt.refused != "" && (pending.Reason != v1.PodReasonInfeasible || pending.Message != "Resize is infeasible for Guaranteed Pods alongside "+tt.refused) {
				t.Errorf("pending %v", *pending)
			}
		})
	}
}

func TestAPodKeepsWhatItHasUntilThereIsRoom(t *testing.T) {
	var freed []types.UID
	pods := []*v1.Pod{asking("a", "1"), asking("b", "3")}
	cfg := Config{
		Dir: t.TempDir(), Allocatable: func() v1.ResourceList { return cpus("4") },
		Freed: func(uids []types.UID) { freed = append(freed, uids...) },
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	allocate := func(pod *v1.Pod, cpu, reason string, changed bool) {
		t.Helper()
		got, pending, ch, err := s.Allocate(pod, func() []*v1.Pod { return slices.Clone(pods) })
		if err != nil {
			t.Fatal(err)
		}
		has(t, got, cpu)
		if ch != changed || (pending == nil) != (reason == "") || pending != nil && pending.Reason != reason {
			t.Errorf("pending %v, changed %v; want %q, %v", pending, ch, reason, changed)
		}
	}
	allocate(pods[0], "1", "", false)
	allocate(pods[1], "3", "", false)
	allocate(asking("a", "2"), "1", "Deferred", false)
	if s, err = New(cfg); err != nil { // the agent starts anew
		t.Fatal(err)
	}
	has(t, s.Of(asking("a", "2")), "1")
	allocate(asking("a", "5"), "1", "Infeasible", false)
	allocate(asking("a", "2"), "1", "Deferred", false)
	pods = pods[:1]
	if err := s.Remove("b"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(freed, []types.UID{"a"}) {
		t.Errorf("told %v, want the pod that waits", freed)
	}
	allocate(asking("a", "2"), "2", "", true)
	allocate(asking("a", "2"), "2", "", false)
	if err := s.Orphans(func(types.UID) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(cfg.Dir); len(left) != 1 {
		t.Errorf("files of pods that are there: %v", left)
	}
	if err := s.Orphans(func(types.UID) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(cfg.Dir); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

// Without the record a pod is given what it asks for, and the agent starts.
func TestADamagedRecordStopsNoAgent(t *testing.T) {
	cfg := Config{Allocatable: func() v1.ResourceList { return cpus("4") }, Freed: func([]types.UID) {}}
	place := func(t *testing.T) string {
		cfg.Dir = filepath.Join(t.TempDir(), "allocated")
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := s.Allocate(asking("a", "1"), alone); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(cfg.Dir, "a")
	}
	damage.Each(t, place, func(t *testing.T, path string) {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := s.Allocate(asking("a", "2"), alone); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if s, err = New(cfg); err != nil {
				t.Fatal(err)
			}
		}
		has(t, s.Of(asking("a", "3")), "2")
		if len(s.given) != 1 {
			t.Errorf("given: %v", s.given)
		}
	})
	place(t)
	if err := errors.Join(os.RemoveAll(cfg.Dir), os.WriteFile(cfg.Dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err != nil {
		t.Errorf("a file in the place of the directory: %v", err)
	}
	damage.MovedAside(t, cfg.Dir)
}

func TestAStaticPodHasWhatItAsksFor(t *testing.T) {
	s, err := New(Config{Dir: t.TempDir(), Allocatable: func() v1.ResourceList { return nil }, Freed: func([]types.UID) {}})
	if err != nil {
		t.Fatal(err)
	}
	pod := asking("s", "1")
	pod.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
	if got, pending, changed, err := s.Allocate(pod, alone); got != pod || pending != nil || changed || err != nil {
		t.Errorf("%v %v %v", pending, changed, err)
	}
}

func TestAResizeBeyondAllBoundsIsInfeasible(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Resources: v1.ResourceRequirements{Limits: v1.ResourceList{"memory": resource.MustParse("1e30")}}}}}}
	if p := beyondBounds(pod); p == nil || p.Reason != v1.PodReasonInfeasible || !strings.Contains(p.Message, "spec.containers[0].resources.limits[memory]") {
		t.Errorf("pending %+v", p)
	}
	pod.Spec.Containers[0].Resources.Limits["memory"] = resource.MustParse("100Gi")
	if p := beyondBounds(pod); p != nil {
		t.Errorf("pending %+v", p)
	}
}

func alone() []*v1.Pod { return nil }
