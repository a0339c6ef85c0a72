package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func named(name string, change ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{}}}}
	p.Name, p.UID = name, types.UID(name)
	for _, f := range change {
		f(p)
	}
	return p
}

func asks(cpu, memory string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests = amounts(cpu, memory) }
}

func guaranteed(cpu, memory string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: amounts(cpu, memory), Limits: amounts(cpu, memory)}
	}
}

func priority(n int32) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.Priority = ptr.To(n) } }

func static(p *v1.Pod) {
	p.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceFile}
}

const critical = 2000000000

func TestVictims(t *testing.T) {
	cpu := func(milli int64) pods.Shortage { return pods.Shortage{Resource: v1.ResourceCPU, Requested: milli} }
	memory := func(bytes int64) pods.Shortage { return pods.Shortage{Resource: v1.ResourceMemory, Requested: bytes} }
	count := func(n int64) pods.Shortage { return pods.Shortage{Resource: v1.ResourcePods, Requested: n} }
	for name, tt := range map[string]struct {
		pod    *v1.Pod
		others []*v1.Pod
		short  []pods.Shortage
		want   string // victims, or the error
	}{
		"nothing is missing": {nil, []*v1.Pod{named("a")}, nil, ""},
		"room for a pod: a BestEffort one": {nil,
			[]*v1.Pod{named("g", guaranteed("1", "1")), named("b", asks("1", "1")), named("e")}, []pods.Shortage{count(1)}, "e"},
		"BestEffort pods give no CPU": {nil,
			[]*v1.Pod{named("g", guaranteed("1", "1")), named("b", asks("1", "1")), named("e")}, []pods.Shortage{cpu(500)}, "b"},
		"no Guaranteed pod where Burstable ones do": {nil,
			[]*v1.Pod{named("g", guaranteed("2", "1")), named("b1", asks("1", "1")), named("b2", asks("1", "1"))}, []pods.Shortage{cpu(1500)}, "b1 b2"},
		"a Guaranteed pod that is needed anyway saves the Burstable one": {nil,
			[]*v1.Pod{named("g", guaranteed("4", "1")), named("b", asks("1", "1"))}, []pods.Shortage{cpu(3000)}, "g"},
		"few pods rather than small ones": {nil,
			[]*v1.Pod{named("b1", asks("1", "1")), named("b2", asks("1", "1")), named("b3", asks("3", "9"))}, []pods.Shortage{cpu(2000)}, "b3"},
		"of those that are enough the smallest": {nil,
			[]*v1.Pod{named("b1", asks("3", "5")), named("b2", asks("3", "4")), named("b3", asks("2", "4"))}, []pods.Shortage{cpu(2000)}, "b3"},
		"resources count by their share": {nil,
			[]*v1.Pod{named("cpu", asks("2", "0")), named("both", asks("1500m", "750")), named("memory", asks("0", "1000"))},
			[]pods.Shortage{cpu(2000), memory(1000)}, "both cpu memory"},
		"critical pods do not end for a static one": {named("new", static),
			[]*v1.Pod{named("s", static, asks("2", "1")), named("c", priority(critical), asks("2", "1")), named("b", asks("1", "1"))}, []pods.Shortage{cpu(2000)},
			"no set of running pods found to reclaim resources: [(res: cpu, q: 1000), ]"},
		"unless they are less important": {named("new", static, priority(critical+1)),
			[]*v1.Pod{named("s", static, asks("2", "1")), named("c", priority(critical), asks("2", "1"))}, []pods.Shortage{cpu(2000)}, "c"},
		"nobody ends for one that is not critical": {named("new", priority(critical-1)),
			[]*v1.Pod{named("b", asks("2", "1"))}, []pods.Shortage{cpu(2000)}, "no set of running pods found to reclaim resources: [(res: cpu, q: 2000), ]"},
		"what the node does not have nobody gives": {nil,
			[]*v1.Pod{named("b", asks("2", "1"))}, []pods.Shortage{{Resource: "example.com/gpu", Requested: 1}, cpu(1)}, "no set of running pods found to reclaim resources: [(res: example.com/gpu, q: 1), ]"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.pod == nil {
				tt.pod = named("new", priority(critical))
			}
			before := fmt.Sprint(tt.others)
			chosen, err := Victims(tt.pod, tt.others, tt.short)
			var names []string
			for _, p := range chosen {
				names = append(names, p.Name)
			}
			slices.Sort(names)
			got := strings.Join(names, " ")
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if fmt.Sprint(tt.others) != before {
				t.Error("the list that was given has changed")
			}
		})
	}
}

func TestACriticalPodIsShortOfResourcesOnlyIfNothingElseIsInItsWay(t *testing.T) {
	node := Node{Name: "n", Allocatable: v1.ResourceList{v1.ResourcePods: resource.MustParse("9"), v1.ResourceCPU: resource.MustParse("2"), v1.ResourceMemory: resource.MustParse("10")}}
	elsewhere := func(p *v1.Pod) { p.Spec.NodeName = "other" }
	for name, tt := range map[string]struct {
		pod  *v1.Pod
		want string
	}{
		"critical":                  {named("a", static, asks("3", "20")), "OutOfcpu [{cpu 3000 1000 2000} {memory 20 1 10}]"},
		"critical, of another node": {named("a", static, asks("3", "20"), elsewhere), "NodeName []"},
		"other, of another node":    {named("a", asks("3", "20"), elsewhere), "OutOfcpu [{cpu 3000 1000 2000} {memory 20 1 10}]"},
	} {
		r := Admit(tt.pod, []*v1.Pod{named("b", asks("1", "1"))}, node)
		if r == nil {
			t.Errorf("%s: admitted", name)
			continue
		}
		if got := fmt.Sprint(r.Reason, " ", r.Short); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestVictimsGoByWhatPodsHaveBeenGiven(t *testing.T) {
	node := Node{Name: "n", Allocatable: amounts("4", "100")}
	node.Allocatable[v1.ResourcePods] = resource.MustParse("9")
	small, large, waits := named("small", asks("4", "1")), named("large", asks("1", "1")), named("waits", static, asks("1", "1"))
	a, err := New(Config{Node: func() Node { return node }, Allocated: func(p *v1.Pod) *v1.Pod {
		switch p.Name {
		case "small": // it asks for more than it has
			return named("small", asks("1", "1"))
		case "large":
			return named("large", asks("2", "1"))
		}
		return p
	}})
	if err != nil {
		t.Fatal(err)
	}
	pod := named("new", static, asks("2", "1"))
	chosen, short, err := a.Victims(pod, []*v1.Pod{small, large, pod}, []*v1.Pod{waits, pod})
	if err != nil || len(chosen) != 1 || chosen[0] != large || len(short) != 1 || short[0].Missing() != 2000 {
		t.Errorf("%v, short of %v, %v", chosen, short, err)
	}
	if chosen, short, err := a.Victims(pod, []*v1.Pod{small}, []*v1.Pod{waits}); len(chosen)+len(short) > 0 || err != nil {
		t.Errorf("with room: %v, short of %v, %v", chosen, short, err)
	}
}
