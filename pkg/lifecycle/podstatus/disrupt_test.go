package podstatus

import (
	"reflect"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOnlyAPodThatHasNotSucceededFailsWhenItIsEnded(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	disrupted := []v1.PodCondition{{
		Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet,
		Message: "for others", LastTransitionTime: metav1.NewTime(since),
	}}
	for name, tc := range map[string]struct {
		disruption   string
		before, want v1.PodStatus
	}{
		"it runs": {"for others", v1.PodStatus{Phase: v1.PodRunning, PodIP: "192.0.2.1"},
			v1.PodStatus{Phase: v1.PodFailed, Reason: "Ended", Message: "why", PodIP: "192.0.2.1", Conditions: disrupted}},
		"for a limit of its own": {"", v1.PodStatus{Phase: v1.PodPending}, v1.PodStatus{Phase: v1.PodFailed, Reason: "Ended", Message: "why"}},
		"it has succeeded":       {"for others", v1.PodStatus{Phase: v1.PodSucceeded}, v1.PodStatus{Phase: v1.PodSucceeded}},
		"it has failed": {"for others", v1.PodStatus{Phase: v1.PodFailed, Reason: "DeadlineExceeded", Message: "late"},
			v1.PodStatus{Phase: v1.PodFailed, Reason: "Ended", Message: "why", Conditions: disrupted}},
	} {
		t.Run(name, func(t *testing.T) {
			s := tc.before
			for range 2 { // with every status
				End{"Ended", "why", tc.disruption, since}.Explain(&s, &v1.Pod{})
			}
			if !reflect.DeepEqual(s, tc.want) {
				t.Errorf("status %+v, want %+v", s, tc.want)
			}
		})
	}
}
