package podstatus

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Disrupt notes in a pod's status that the node ends it for reasons that are not its own
// (condition DisruptionTarget with reason TerminationByKubelet, KEP-3329). It may be called
// repeatedly.
func Disrupt(s *v1.PodStatus, generation int64, message string) {
	c := v1.PodCondition{
		Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet, Message: message,
		ObservedGeneration: generation, LastTransitionTime: metav1.Now(),
	}
	old := condition(*s, v1.DisruptionTarget)
	if old == nil {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}
