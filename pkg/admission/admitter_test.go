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

// giver is an Allocator that answers what it is told to, and counts.
type giver struct {
	check, allocate     error
	allocated, released int
}

func (g *giver) Check(*v1.Pod) error     { return g.check }
func (g *giver) Allocate(*v1.Pod) error  { g.allocated++; return g.allocate }
func (g *giver) Release(types.UID) error { g.released++; return nil }

func TestAnAdmittedPodHasAllAndARejectedOneNothingToItself(t *testing.T) {
	full := &pods.Rejection{Reason: "UnexpectedAdmissionError", Message: "none is left"}
	for name, tt := range map[string]struct {
		first, second giver
		want          string
		allocated     [2]int
	}{
		"admitted":                              {giver{}, giver{}, "", [2]int{1, 1}},
		"none left":                             {giver{check: full}, giver{}, full.Reason, [2]int{0, 0}},
		"none left of the second":               {giver{}, giver{check: full}, full.Reason, [2]int{0, 0}},
		"none left when it is given":            {giver{allocate: full}, giver{}, full.Reason, [2]int{1, 0}},
		"none left of the second when given":    {giver{}, giver{allocate: full}, full.Reason, [2]int{1, 1}},
		"a disk that fails: it is tried again":  {giver{allocate: errors.New("disk full")}, giver{}, "", [2]int{1, 1}},
		"a check that fails without a judgment": {giver{check: errors.New("unknown")}, giver{}, "", [2]int{1, 1}},
	} {
		a, err := New(Config{Node: func() Node { return Node{Name: "n"} }, Allocators: []Allocator{&tt.first, &tt.second}})
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
		if got != tt.want || [2]int{tt.first.allocated, tt.second.allocated} != tt.allocated || tt.first.released != released || tt.second.released != released {
			t.Errorf("%s: rejected %q, %+v, %+v", name, got, tt.first, tt.second)
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
