package podstatus

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Rejected returns the status of a pod that was not admitted to the node.
func Rejected(pod *v1.Pod, r pods.Rejection, now time.Time) v1.PodStatus {
	return v1.PodStatus{
		ObservedGeneration: pod.Generation, QOSClass: pods.QOSClass(pod), Phase: v1.PodFailed, Reason: r.Reason,
		Message: "Pod was rejected: " + r.Message, StartTime: &metav1.Time{Time: now.Truncate(time.Second)},
	}
}

// WaitingForRoom is the reason in the status of a pod that is admitted as soon as other pods have ended.
const WaitingForRoom = "WaitingForRoom"

// Waiting returns the status of such a pod.
func Waiting(pod *v1.Pod, message string) v1.PodStatus {
	return v1.PodStatus{
		ObservedGeneration: pod.Generation, QOSClass: pods.QOSClass(pod), Phase: v1.PodPending, Reason: WaitingForRoom, Message: message,
	}
}
