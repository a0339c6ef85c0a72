package admission

import (
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// exclusive is a CPUs that answers what it is told to, and counts.
type exclusive struct {
	check, allocate    error
	allocated, release int
}

func (e *exclusive) Check(*v1.Pod) error     { return e.check }
func (e *exclusive) Allocate(*v1.Pod) error  { e.allocated++; return e.allocate }
func (e *exclusive) Release(types.UID) error { e.release++; return nil }

func TestAnAdmittedPodHasItsCPUsAndARejectedOneGivesThemBack(t *testing.T) {
	full := &pods.Rejection{Reason: "UnexpectedAdmissionError", Message: "no CPU is left"}
	for name, tt := range map[string]struct {
		cpus      exclusive
		want      string
		allocated int
	}{
		"admitted":                   {exclusive{}, "", 1},
		"none left":                  {exclusive{check: full}, full.Reason, 0},
		"none left when it is given": {exclusive{allocate: full}, full.Reason, 1},
		"a disk that fails":          {exclusive{allocate: errors.New("disk full")}, "", 1}, // the worker tries again
	} {
		a, err := New(Config{Node: func() Node { return Node{Name: "n"} }, CPUs: &tt.cpus})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if r := a.Admit(&v1.Pod{Spec: v1.PodSpec{Tolerations: []v1.Toleration{{Operator: v1.TolerationOpExists}}}}, nil); r != nil {
			got = r.Reason
		}
		released := 0
		if tt.want != "" {
			released = 1
		}
		if got != tt.want || tt.cpus.allocated != tt.allocated || tt.cpus.release != released {
			t.Errorf("%s: rejected %q, allocated %d, released %d times", name, got, tt.cpus.allocated, tt.cpus.release)
		}
	}
}

func TestPodsCountWithWhatTheyHaveBeenGiven(t *testing.T) {
	var asked []string
	a, err := New(Config{Node: func() Node { return Node{Name: "n"} }, Allocated: func(p *v1.Pod) *v1.Pod { asked = append(asked, p.Name); return p }})
	if err != nil {
		t.Fatal(err)
	}
	others := []*v1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "other", UID: "2"}}}
	a.Admit(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "new", UID: "1"}}, others)
	if len(asked) != 2 || asked[0] != "new" || asked[1] != "other" {
		t.Errorf("asked for %q", asked)
	}
}

func TestTheAPIServerSaysLabelsTaintsAndForeignResources(t *testing.T) {
	own := Node{Labels: map[string]string{"own": ""}, Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}}
	if got := own.In(nil); len(got.Labels) != 1 || len(got.Taints) != 0 {
		t.Errorf("before it is known: %+v", got)
	}
	object := &v1.Node{Spec: v1.NodeSpec{Taints: []v1.Taint{{Key: "t"}}}, Status: v1.NodeStatus{Allocatable: v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("9"), "example.com/gpu": resource.MustParse("1"),
	}}}
	object.Labels = map[string]string{"theirs": ""}
	got := own.In(object)
	gpu := got.Allocatable["example.com/gpu"]
	if _, theirs := got.Labels["theirs"]; !theirs || len(got.Taints) != 1 || got.Allocatable.Cpu().Value() != 2 || gpu.Value() != 1 {
		t.Errorf("in the cluster: %+v", got)
	}
	if len(own.Allocatable) != 1 {
		t.Errorf("the offer itself was changed: %v", own.Allocatable)
	}
}
