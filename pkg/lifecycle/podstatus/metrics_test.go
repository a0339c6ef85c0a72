package podstatus

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newManager(t *testing.T) *Manager {
	t.Helper()
	m, err := NewManager(nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEachEndOfAContainerIsCountedOnce(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	m, err := NewManager(r)
	if err != nil {
		t.Fatal(err)
	}
	ended := func(name string, code int32, reason string) v1.ContainerStatus {
		return v1.ContainerStatus{Name: name, State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: code, Reason: reason}}}
	}
	runs := v1.ContainerStatus{Name: "c", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "1", Name: "web"}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
	init := []v1.ContainerStatus{ended("i", 0, "Completed")}
	for _, c := range []v1.ContainerStatus{runs, ended("c", 1, "Error"), ended("c", 1, "Error"), runs, ended("c", 137, "OOMKilled")} {
		m.Set(pod, v1.PodStatus{InitContainerStatuses: init, ContainerStatuses: []v1.ContainerStatus{c}, EphemeralContainerStatuses: []v1.ContainerStatus{ended("e", 0, "Completed")}})
	}
	old := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "2", Name: "old"}, Status: v1.PodStatus{ContainerStatuses: init}}
	m.Set(old, *old.Status.DeepCopy()) // as after a restart of the agent
	err = testutil.GatherAndCompare(r, strings.NewReader(`
# HELP kubelet_terminated_containers_total How many containers have ended, by kind, exit code and reason
# TYPE kubelet_terminated_containers_total counter
kubelet_terminated_containers_total{container_type="container",exit_code="1",reason="Error"} 1
kubelet_terminated_containers_total{container_type="container",exit_code="137",reason="OOMKilled"} 1
kubelet_terminated_containers_total{container_type="ephemeral_container",exit_code="0",reason="Completed"} 1
kubelet_terminated_containers_total{container_type="init_container",exit_code="0",reason="Completed"} 1
`))
	if err != nil {
		t.Error(err)
	}
}
