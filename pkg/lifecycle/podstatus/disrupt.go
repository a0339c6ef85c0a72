package podstatus

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// End is why the node ends a pod.
type End struct {
	Reason, Message string
	// Disruption is the message of the condition that Disrupt writes; "": none.
	Disruption string
	Since      time.Time
}

// Explain writes into a pod's status why the node ends it: it has failed. It is called with every new status of the
// pod. A pod that has succeeded by the first of them was done before it was ended, and its status stays as it is.
func (e End) Explain(s *v1.PodStatus, pod *v1.Pod) {
	if s.Phase == v1.PodSucceeded {
		return
	}
	s.Phase, s.Reason, s.Message = v1.PodFailed, e.Reason, e.Message
	if e.Disruption != "" {
		Disrupt(s, pod, e.Disruption, e.Since)
	}
}

// Disrupt notes in a pod's status that the node ends it, since a time, for the sake of others
// (condition DisruptionTarget with reason TerminationByKubelet, KEP-3329). It may be called
// repeatedly, and changes no condition that the status shares with another.
func Disrupt(s *v1.PodStatus, pod *v1.Pod, message string, since time.Time) {
	c := v1.PodCondition{
		Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet, Message: message,
		ObservedGeneration: pod.Generation, LastTransitionTime: metav1.NewTime(since.Truncate(time.Second)),
	}
	s.Conditions = slices.Clone(s.Conditions)
	old := condition(*s, c.Type)
	if old == nil {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if old.Status == c.Status && !old.LastTransitionTime.IsZero() {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}
