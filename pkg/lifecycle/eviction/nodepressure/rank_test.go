package nodepressure

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
)

// p is a pod with one container "c" that requests something, and a priority.
func p(name string, priority int32, requests ...string) *v1.Pod {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: v1.PodSpec{Priority: ptr.To(priority), Containers: []v1.Container{{Name: "c"}}}}
	list := v1.ResourceList{}
	for i := 0; i < len(requests); i += 2 {
		list[v1.ResourceName(requests[i])] = resource.MustParse(requests[i+1])
	}
	pod.Spec.Containers[0].Resources.Requests = list
	return pod
}

func TestRank(t *testing.T) {
	const mib = 1 << 20
	memory := func(n int64) usage { return usage{memory: n * mib} }
	disk := func(layer, logs, volumes uint64) usage {
		d := func(n uint64) diskusage.Usage { return diskusage.Usage{Bytes: n * mib, Inodes: n} }
		return usage{volumes: d(volumes), containers: []containerUsage{{name: "c", layer: d(layer), logs: d(logs)}}}
	}
	for name, tc := range map[string]struct {
		signal options.Signal
		l      layout
		pods   []*v1.Pod
		used   map[types.UID]usage
		want   string
	}{
		"beyond the request, then priority, then how far": {options.MemoryAvailable, layout{},
			[]*v1.Pod{p("within", -10, "memory", "100Mi"), p("important", 1000), p("some", 0, "memory", "10Mi"), p("much", 0, "memory", "10Mi")},
			map[types.UID]usage{"within": memory(99), "important": memory(900), "some": memory(20), "much": memory(50)},
			"much some important within"},
		"what is not known goes first": {options.AllocatableMemoryAvailable, layout{},
			[]*v1.Pod{p("much", 0), p("new", 1000)}, map[types.UID]usage{"much": memory(50)}, "new much"},
		"alike: by name": {options.MemoryAvailable, layout{}, []*v1.Pod{p("b", 0), p("a", 0)}, map[types.UID]usage{"a": memory(1), "b": memory(1)}, "a b"},
		"within the request: who is nearer to it": {options.MemoryAvailable, layout{}, []*v1.Pod{p("far", 0, "memory", "100Mi"), p("near", 0, "memory", "100Mi")},
			map[types.UID]usage{"far": memory(10), "near": memory(90)}, "near far"},
		"all files count on the one disk": {options.NodefsAvailable, layout{}, []*v1.Pod{p("layer", 0), p("logs", 0), p("volumes", 0), p("asked", 0, "ephemeral-storage", "1Gi")},
			map[types.UID]usage{"layer": disk(30, 1, 1), "logs": disk(1, 20, 1), "volumes": disk(1, 1, 10), "asked": disk(100, 100, 100)}, "layer logs volumes asked"},
		"layers do not count where images have a disk": {options.NodefsAvailable, layout{images: true}, []*v1.Pod{p("layer", 0), p("logs", 0)},
			map[types.UID]usage{"layer": disk(30, 1, 1), "logs": disk(1, 20, 1)}, "logs layer"},
		"and alone do on that one": {options.ImagefsAvailable, layout{images: true}, []*v1.Pod{p("layer", 0), p("logs", 0)},
			map[types.UID]usage{"layer": disk(30, 1, 1), "logs": disk(1, 200, 1)}, "layer logs"},
		"inodes have no request": {options.NodefsInodesFree, layout{}, []*v1.Pod{p("few", 0), p("many", 0, "ephemeral-storage", "1Gi")},
			map[types.UID]usage{"few": disk(1, 1, 1), "many": disk(5, 5, 5)}, "many few"},
		"processes: priority, then how many": {options.PIDAvailable, layout{}, []*v1.Pod{p("important", 10), p("few", 0), p("many", 0), p("new", 0)},
			map[types.UID]usage{"important": {processes: 1000}, "few": {processes: 2}, "many": {processes: 500}}, "many few new important"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // in any order
				var got []string
				for _, pod := range rank(tc.pods, tc.used, tc.signal, tc.l) {
					got = append(got, pod.Name)
				}
				if s := strings.Join(got, " "); s != tc.want {
					t.Errorf("%s, want %s", s, tc.want)
				}
				slices.Reverse(tc.pods)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	const mib = 1 << 20
	pod := p("p", 0, "memory", "10Mi", "ephemeral-storage", "5Mi")
	pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: "modest", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi")}}})
	whole := pod.DeepCopy()
	whole.Spec.Resources = &v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceMemory: resource.MustParse("20Mi")}}
	u := usage{memory: 60 * mib, containers: []containerUsage{
		{name: "c", memory: 50 * mib, layer: diskusage.Usage{Bytes: 4 * mib}, logs: diskusage.Usage{Bytes: 4 * mib}}, {name: "modest", memory: 10 * mib},
	}}
	low := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi. "
	for name, tc := range map[string]struct {
		pod   *v1.Pod
		known bool
		t     options.Threshold
		o     observation
		want  string
		keys  map[string]string
	}{
		"memory": {pod, true, hard(options.MemoryAvailable, 100*mib), observation{available: 60 * mib},
			low + "Container c was using 50Mi, request is 10Mi, has larger consumption of memory. ",
			map[string]string{"offending_containers": "c", "offending_containers_usage": "50Mi", "starved_resource": "memory"}},
		"a pod with requests of its own": {whole, true, hard(options.MemoryAvailable, 100*mib), observation{available: 60 * mib},
			low + "Pod p was using 60Mi, request is 20Mi, has larger consumption of memory. Container c was using 50Mi, request is 10Mi, has larger consumption of memory. ",
			map[string]string{"offending_pod": "p", "offending_pod_usage": "60Mi"}},
		"nothing is known of it": {pod, false, hard(options.MemoryAvailable, 100*mib), observation{available: 60 * mib}, low, nil},
		"disk, a percentage": {pod, true, options.Threshold{Signal: options.NodefsAvailable, Amount: options.Amount{Percent: 10}}, observation{available: mib, capacity: 100 * mib},
			"The node was low on resource: ephemeral-storage. Threshold quantity: 10Mi, available: 1Mi. Container c was using 8Mi, request is 5Mi, has larger consumption of ephemeral-storage. ",
			map[string]string{"starved_resource": "ephemeral-storage"}},
		"inodes": {pod, true, hard(options.NodefsInodesFree, 1024), observation{available: 3}, "The node was low on resource: inodes. Threshold quantity: 1024, available: 3. ", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, keys := explain(tc.pod, u, tc.known, tc.t, tc.o)
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			for k, want := range tc.keys {
				if keys[k] != want {
					t.Errorf("%s: %q, want %q", k, keys[k], want)
				}
			}
		})
	}
}
