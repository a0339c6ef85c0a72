package podstatus

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// Pods are the desired pods of this node.
type Pods interface{ Pods() []*v1.Pod }

// Leaving are the pods that nobody wants any more, until they are gone. They are marked as
// deleted.
type Leaving interface{ Leaving() []*v1.Pod }

// View shows the pods of this node with their statuses, as /pods does. Safe for concurrent use.
type View struct {
	desired  Pods
	leaving  Leaving
	statuses *Manager
}

// NewView returns a View of the pods with their statuses.
func NewView(desired Pods, leaving Leaving, statuses *Manager) View {
	return View{desired, leaving, statuses}
}

// Pods returns copies of the desired pods and of those that are leaving, with their last statuses,
// ordered by namespace and name. Where one has the name of another that it replaces, it comes
// first.
func (v View) Pods() []*v1.Pod {
	all := v.wanted()
	for _, p := range v.leaving.Leaving() {
		again := slices.ContainsFunc(all, func(w *v1.Pod) bool { return w.UID == p.UID })
		if s, ok := v.statuses.Get(p.UID); ok && !again {
			shown := *p
			shown.Status = s
			all = append(all, &shown)
		}
	}
	slices.SortStableFunc(all, func(a, b *v1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return all
}

func (v View) wanted() []*v1.Pod {
	pods := v.desired.Pods()
	for i, p := range pods {
		shown := *p // spec and metadata are shared and only read
		if s, ok := v.statuses.Get(p.UID); ok {
			shown.Status = s
		} else {
			shown.Status = v1.PodStatus{Phase: v1.PodPending}
		}
		pods[i] = &shown
	}
	return pods
}

// Recall returns the status of an object at the API server; false if there is no object,
// or it has no status yet.
func Recall(object *v1.Pod, ok bool) (v1.PodStatus, bool) {
	if !ok || object.Status.Phase == "" {
		return v1.PodStatus{}, false
	}
	return *object.Status.DeepCopy(), true
}
