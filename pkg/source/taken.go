package source

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// taken holds the names and UIDs of pods and the names of objects, with where these
// came from.
type taken struct {
	names   map[types.NamespacedName]string
	uids    map[types.UID]string
	objects map[ident]string
}

func newTaken() taken {
	return taken{names: map[types.NamespacedName]string{}, uids: map[types.UID]string{}, objects: map[ident]string{}}
}

// addAll adds to all what does not clash, and returns the clashes.
func (t taken) addAll(all *given, more given, from string) (clashes []string) {
	for _, pod := range more.pods {
		if clash := t.add(pod, from); clash != "" {
			clashes = append(clashes, clash)
			continue
		}
		all.pods = append(all.pods, pod)
	}
	for _, o := range more.objects {
		if clash := t.addObject(o, from); clash != "" {
			clashes = append(clashes, clash)
			continue
		}
		all.objects = append(all.objects, o)
	}
	return clashes
}

// addObject is add for objects other than pods.
func (t taken) addObject(o metav1.Object, from string) (clash string) {
	id := identOf(o)
	if first, ok := t.objects[id]; ok {
		return fmt.Sprintf("duplicate %s name %s: the one of %s is used, this one is not", id.kind, strings.TrimPrefix(id.name.String(), "/"), first)
	}
	t.objects[id] = from
	return ""
}

// add takes the pod's name and UID. If another pod has one of them, it takes
// neither and returns why.
func (t taken) add(pod *v1.Pod, from string) (clash string) {
	name := nameOf(pod)
	if first, ok := t.names[name]; ok {
		return fmt.Sprintf("duplicate pod name %s: the pod of %s is run, this one is not", name, first)
	}
	if first, ok := t.uids[pod.UID]; ok {
		return fmt.Sprintf("duplicate pod UID %s of pod %s: the pod of %s is run, this one is not", pod.UID, name, first)
	}
	t.names[name], t.uids[pod.UID] = from, from
	return ""
}
