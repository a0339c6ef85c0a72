package podstatus

import v1 "k8s.io/api/core/v1"

// Pods are the desired pods of this node.
type Pods interface{ Pods() []*v1.Pod }

// View shows the desired pods with their statuses, as /pods does. Safe for concurrent use.
type View struct {
	desired  Pods
	statuses *Manager
}

// NewView returns a View of the pods with their statuses.
func NewView(desired Pods, statuses *Manager) View { return View{desired, statuses} }

// Pods returns copies of the desired pods with their last statuses.
func (v View) Pods() []*v1.Pod {
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
