package pods

import v1 "k8s.io/api/core/v1"

// ComesBack reports whether a pod that the node ends, before it is done, starts here again: a static one, since nobody
// makes another, unless it may run once only.
func ComesBack(pod *v1.Pod) bool {
	return IsStatic(pod) && pod.Spec.RestartPolicy != v1.RestartPolicyNever
}

// IsFinishedForGood reports whether a pod in that phase will not run here again. A static one that has failed has
// perhaps only been turned away, or ended by the node.
func IsFinishedForGood(pod *v1.Pod, phase v1.PodPhase) bool {
	return IsFinished(phase) && (phase == v1.PodSucceeded || !ComesBack(pod))
}
