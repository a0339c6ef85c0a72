package podstatus

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// The kubelet's reason and message for a pod that was stopped at its deadline.
const (
	DeadlineExceeded        = "DeadlineExceeded"
	DeadlineExceededMessage = "Pod was active on the node longer than the specified deadline"
)

// Deadline returns when a pod with this start time must have ended, by
// spec.activeDeadlineSeconds; ok is false when it may run for ever.
func Deadline(pod *v1.Pod, started *metav1.Time) (at time.Time, ok bool) {
	if pod.Spec.ActiveDeadlineSeconds == nil || started.IsZero() {
		return time.Time{}, false
	}
	return started.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second), true
}

// overdue reports whether the pod has failed because of its deadline. A pod that
// was done in time has not, however late it is looked at; one whose containers
// ended after the deadline was stopped because of it, perhaps by an earlier agent.
func overdue(pod *v1.Pod, s *v1.PodStatus, now time.Time) bool {
	at, ok := Deadline(pod, s.StartTime)
	if !ok || now.Before(at) {
		return false
	}
	if !pods.IsFinished(s.Phase) {
		return true
	}
	for _, c := range s.ContainerStatuses {
		if ended := c.State.Terminated; ended != nil && !ended.FinishedAt.Time.Before(at) {
			return true
		}
	}
	return false
}

// startTime returns when the pod was first seen on this node: from its last status,
// from the API server's, from the sandbox's annotation, or now.
func startTime(in Input) *metav1.Time {
	switch {
	case in.Old.StartTime != nil:
		return in.Old.StartTime
	case in.Pod.Status.StartTime != nil:
		return in.Pod.Status.StartTime
	}
	if in.Observed != nil && len(in.Observed.Sandboxes) > 0 {
		recorded, err := time.Parse(time.RFC3339, in.Observed.Sandboxes[0].Annotations[pods.AnnotationStartTime])
		if err == nil {
			return &metav1.Time{Time: recorded}
		}
	}
	return &metav1.Time{Time: in.Now.Truncate(time.Second)}
}
