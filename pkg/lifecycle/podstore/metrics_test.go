package podstore

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func TestWhatIsWantedIsCounted(t *testing.T) {
	s, r := New(), prometheus.NewPedanticRegistry()
	if err := Export(s, r); err != nil {
		t.Fatal(err)
	}
	s.Set(pod("1", "web", map[string]string{pods.AnnotationConfigSource: pods.SourceFile}))
	s.Set(pod("2", "web", map[string]string{pods.AnnotationConfigMirror: "hash"}))
	debugged := pod("3", "other", nil)
	debugged.Spec.EphemeralContainers = make([]v1.EphemeralContainer, 2)
	s.Set(debugged)
	s.Set(pod("4", "gone", nil))
	s.Remove(pod("4", "gone", nil))
	err := testutil.GatherAndCompare(r, strings.NewReader(`
# HELP kubelet_desired_pods How many pods this node is to run, static ones and others
# TYPE kubelet_desired_pods gauge
kubelet_desired_pods{static=""} 1
kubelet_desired_pods{static="true"} 1
# HELP kubelet_managed_ephemeral_containers How many ephemeral containers this node's pods have
# TYPE kubelet_managed_ephemeral_containers gauge
kubelet_managed_ephemeral_containers 2
# HELP kubelet_mirror_pods How many mirror pods show this node's static pods at the API server
# TYPE kubelet_mirror_pods gauge
kubelet_mirror_pods 1
`))
	if err != nil {
		t.Error(err)
	}
}
