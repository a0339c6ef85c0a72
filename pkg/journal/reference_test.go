package journal

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func testPod(annotations map[string]string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1", ResourceVersion: "7", Annotations: annotations},
		Spec: v1.PodSpec{
			Containers: []v1.Container{{Name: "main"}}, InitContainers: []v1.Container{{Name: "init"}},
			EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug"}}},
		},
	}
}

func TestReference(t *testing.T) {
	static := map[string]string{pods.AnnotationConfigSource: pods.SourceFile, pods.AnnotationConfigHash: "h1"}
	fromAPI := map[string]string{pods.AnnotationConfigSource: pods.SourceAPI, pods.AnnotationConfigHash: "h1"}
	tests := []struct {
		name, container string
		annotations     map[string]string
		uid, path       string
	}{
		{"the pod", "", nil, "u1", ""},
		{"a container", "main", nil, "u1", "spec.containers{main}"},
		{"an init container", "init", nil, "u1", "spec.initContainers{init}"},
		{"an ephemeral container", "debug", nil, "u1", "spec.ephemeralContainers{debug}"},
		{"a container that is none", "POD", nil, "u1", ""},
		{"a static pod, by its hash", "main", static, "h1", "spec.containers{main}"},
		{"a static pod without a hash", "", map[string]string{pods.AnnotationConfigSource: pods.SourceFile}, "u1", ""},
		{"a pod of the API server that says it has a hash", "", fromAPI, "u1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Reference(testPod(tt.annotations), tt.container)
			want := v1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "shop", Name: "web", UID: got.UID, ResourceVersion: "7", FieldPath: tt.path}
			if *got != want || string(got.UID) != tt.uid {
				t.Errorf("Reference = %+v, want UID %s and path %q", *got, tt.uid, tt.path)
			}
		})
	}
}
