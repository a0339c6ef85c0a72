package nodepressure

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// usage is what a pod uses.
type usage struct {
	memory     int64 // working set, in bytes
	processes  int64
	volumes    diskusage.Usage // the pod's own local volumes
	containers []containerUsage
}

type containerUsage struct {
	name        string
	memory      int64
	layer, logs diskusage.Usage
}

// disk is what the pod occupies of a file system.
func (u usage) disk(c counted) diskusage.Usage {
	var sum diskusage.Usage
	add := func(counts bool, d diskusage.Usage) {
		if counts {
			sum.Bytes += d.Bytes
			sum.Inodes += d.Inodes
		}
	}
	add(c.volumes, u.volumes)
	for _, one := range u.containers {
		add(c.layers, one.layer)
		add(c.logs, one.logs)
	}
	return sum
}

// rank returns the pods in the order in which they are evicted for a signal, as the kubelet does:
// those first of which nobody knows what they use; those that use more than they request; those of
// lower priority; those that use most beyond their request. Processes are not requested: there priority
// comes first, then their number. The order of pods that are alike is that of their names.
//
// Two things differ from the kubelet. Inodes, which cannot be requested, are compared with nothing,
// where the kubelet compares them with the request in bytes. And what a hostPath holds does not count:
// it would not go with the pod.
func rank(candidates []*v1.Pod, used map[types.UID]usage, s options.Signal, l layout) []*v1.Pod {
	type candidate struct {
		pod      *v1.Pod
		unknown  bool
		exceeds  bool
		priority int32
		beyond   int64 // use less request
	}
	what := signals[s].resource
	all := make([]candidate, len(candidates))
	for i, pod := range candidates {
		u, known := used[pod.UID]
		c := candidate{pod: pod, unknown: !known, priority: corev1.PodPriority(pod)}
		switch what {
		case v1.ResourceMemory:
			c.beyond = u.memory - request(pod, what)
		case v1.ResourceEphemeralStorage:
			c.beyond = int64(u.disk(countedFor(s, l)).Bytes) - request(pod, what)
		case inodes:
			c.beyond = int64(u.disk(countedFor(s, l)).Inodes)
		case pids:
			c.beyond = u.processes
		}
		c.exceeds = what != pids && c.beyond > 0
		c.unknown = c.unknown && what != pids
		all[i] = c
	}
	yes := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(yes(a.unknown), yes(b.unknown)), cmp.Compare(yes(a.exceeds), yes(b.exceeds)), cmp.Compare(a.priority, b.priority),
			cmp.Compare(b.beyond, a.beyond), cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name),
		)
	})
	out := make([]*v1.Pod, len(all))
	for i, c := range all {
		out[i] = c.pod
	}
	return out
}

func request(pod *v1.Pod, name v1.ResourceName) int64 {
	q := resource.PodRequests(pod, resource.PodResourcesOptions{})[name]
	return q.Value()
}

// Keys of the annotations of an Evicted event, the kubelet's.
const (
	annotationContainers     = "offending_containers"
	annotationContainerUsage = "offending_containers_usage"
	annotationPod            = "offending_pod"
	annotationPodUsage       = "offending_pod_usage"
	annotationResource       = "starved_resource"
)

// explain words why a pod is evicted, in the kubelet's words, and annotates the event.
func explain(pod *v1.Pod, u usage, known bool, t options.Threshold, o observation) (message string, annotations map[string]string) {
	what := signals[t.Signal].resource
	message = fmt.Sprintf("The node was low on resource: %v. Threshold quantity: %s, available: %s. ", what, quantity(what, t.Of(o.capacity)), quantity(what, o.available))
	annotations = map[string]string{}
	if !known {
		return message, annotations
	}
	if what == v1.ResourceMemory && resource.IsPodLevelResourcesSet(pod) {
		if q, ok := pod.Spec.Resources.Requests[what]; ok {
			message += fmt.Sprintf("Pod %s was using %s, request is %s, has larger consumption of %v. ", pod.Name, quantity(what, u.memory), q.String(), what)
			annotations[annotationPod], annotations[annotationPodUsage] = pod.Name, quantity(what, u.memory)
		}
	}
	var names, uses []string
	for _, used := range u.containers {
		c, kind := pods.Container(pod, used.name)
		if c == nil || kind == pods.EphemeralContainer {
			continue // what the latter use has no request to exceed
		}
		n := used.memory
		switch what {
		case v1.ResourceMemory:
		case v1.ResourceEphemeralStorage:
			n = int64(used.layer.Bytes + used.logs.Bytes)
		default:
			continue
		}
		requested := c.Resources.Requests[what]
		if apiresource.NewQuantity(n, apiresource.BinarySI).Cmp(requested) <= 0 {
			continue
		}
		message += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %v. ", used.name, quantity(what, n), requested.String(), what)
		names, uses = append(names, used.name), append(uses, quantity(what, n))
	}
	annotations[annotationContainers], annotations[annotationContainerUsage] = strings.Join(names, ","), strings.Join(uses, ",")
	annotations[annotationResource] = string(what)
	return message, annotations
}
