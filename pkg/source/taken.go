package source

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// taken holds the names and UIDs that pods have, and where these came from.
type taken struct {
	names map[types.NamespacedName]string
	uids  map[types.UID]string
}

func newTaken() taken {
	return taken{names: map[types.NamespacedName]string{}, uids: map[types.UID]string{}}
}

// add takes the pod's name and UID. If another pod has one of them it takes none
// and says so.
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
