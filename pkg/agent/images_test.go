package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func TestWhoseImagesAreWanted(t *testing.T) {
	static := map[string]string{pods.AnnotationConfigSource: "file"}
	for name, tt := range map[string]struct {
		annotations map[string]string
		policy      v1.RestartPolicy
		phase       v1.PodPhase
		over        bool
	}{
		"it runs":                        {nil, v1.RestartPolicyAlways, v1.PodRunning, false},
		"an evicted pod":                 {nil, v1.RestartPolicyAlways, v1.PodFailed, true},
		"an evicted static pod":          {static, v1.RestartPolicyAlways, v1.PodFailed, false},
		"a static pod that has finished": {static, v1.RestartPolicyNever, v1.PodSucceeded, true},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: tt.policy}}
		pod.Annotations = tt.annotations
		if got := finishedForGood(pod, v1.PodStatus{Phase: tt.phase}); got != tt.over {
			t.Errorf("%s: finished for good is %v", name, got)
		}
	}
}
