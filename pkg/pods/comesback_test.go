package pods

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestWhichPodsComeBack(t *testing.T) {
	static := map[string]string{AnnotationConfigSource: "file"}
	for name, tt := range map[string]struct {
		annotations map[string]string
		policy      v1.RestartPolicy
		phase       v1.PodPhase
		back, over  bool
	}{
		"it runs":                {nil, v1.RestartPolicyAlways, v1.PodRunning, false, false},
		"an evicted pod":         {nil, v1.RestartPolicyAlways, v1.PodFailed, false, true},
		"a static pod that runs": {static, v1.RestartPolicyAlways, v1.PodRunning, true, false},
		"an evicted static pod":  {static, v1.RestartPolicyAlways, v1.PodFailed, true, false},
		"an evicted static pod, until it succeeds": {static, v1.RestartPolicyOnFailure, v1.PodFailed, true, false},
		"a static pod that has succeeded":          {static, v1.RestartPolicyOnFailure, v1.PodSucceeded, true, true},
		"an evicted static pod, once only":         {static, v1.RestartPolicyNever, v1.PodFailed, false, true},
		"a static pod that was once only":          {static, v1.RestartPolicyNever, v1.PodSucceeded, false, true},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: tt.policy}}
		pod.Annotations = tt.annotations
		if got := ComesBack(pod); got != tt.back {
			t.Errorf("%s: it comes back: %v", name, got)
		}
		if got := IsFinishedForGood(pod, tt.phase); got != tt.over {
			t.Errorf("%s: finished for good: %v", name, got)
		}
	}
}
