package manifest

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Taken holds the names and UIDs of pods and the names of objects, with where these
// came from.
type Taken struct {
	names   map[types.NamespacedName]string
	uids    map[types.UID]string
	objects map[Ident]string
}

// NewTaken returns a Taken of nothing.
func NewTaken() Taken {
	return Taken{names: map[types.NamespacedName]string{}, uids: map[types.UID]string{}, objects: map[Ident]string{}}
}

// AddAll adds to all what does not clash, and returns the clashes, which do not have Source and File yet.
func (t Taken) AddAll(all *Content, more Content, from string) (clashes []Problem) {
	for _, pod := range more.Pods {
		if clash := t.Add(pod, from); clash != "" {
			clashes = append(clashes, Problem{Message: clash, Kind: kindPod, Name: pods.NameOf(pod)})
			continue
		}
		all.Pods = append(all.Pods, pod)
	}
	for _, o := range more.Objects {
		if clash := t.AddObject(o, from); clash != "" {
			id := identOf(o)
			clashes = append(clashes, Problem{Message: clash, Kind: id.Kind, Name: id.Name})
			continue
		}
		all.Objects = append(all.Objects, o)
	}
	return clashes
}

// AddObject is Add for objects other than pods.
func (t Taken) AddObject(o metav1.Object, from string) (clash string) {
	id := identOf(o)
	if first, ok := t.objects[id]; ok {
		return fmt.Sprintf("duplicate %s name %s: the one of %s is used, this one is not", id.Kind, strings.TrimPrefix(id.Name.String(), "/"), first)
	}
	t.objects[id] = from
	return ""
}

// Add takes the pod's name and UID. If another pod has one of them, it takes
// neither and returns why.
func (t Taken) Add(pod *v1.Pod, from string) (clash string) {
	name := pods.NameOf(pod)
	if first, ok := t.names[name]; ok {
		return fmt.Sprintf("duplicate pod name %s: the pod of %s is run, this one is not", name, first)
	}
	if first, ok := t.uids[pod.UID]; ok {
		return fmt.Sprintf("duplicate pod UID %s of pod %s: the pod of %s is run, this one is not", pod.UID, name, first)
	}
	t.names[name], t.uids[pod.UID] = from, from
	return ""
}
