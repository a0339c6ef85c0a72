package resize

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func TestResizesAreCounted(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	s, err := New(Config{Dir: t.TempDir(), Allocatable: func() v1.ResourceList { return cpus("4") }, Freed: func([]types.UID) {}, Metrics: r})
	if err != nil {
		t.Fatal(err)
	}
	other := asking("b", "2")
	allocate := func(pod *v1.Pod, beside ...*v1.Pod) {
		t.Helper()
		if _, _, _, err := s.Allocate(pod, func() []*v1.Pod { return beside }); err != nil {
			t.Fatal(err)
		}
	}
	allocate(other)
	wants := func(cpu string, generation int64) *v1.Pod {
		p := asking("a", cpu)
		p.Generation, p.Spec.Priority = generation, ptr.To[int32](7)
		return p
	}
	allocate(wants("1", 1), other)
	s.Requested(wants("1", 1), wants("3", 2))
	allocate(wants("3", 2), other) // no room now
	allocate(wants("3", 2), other) // still none: no other resize
	if n, err := testutil.GatherAndCount(r, "kubelet_pod_pending_resizes"); err != nil || n != 1 {
		t.Errorf("%d kinds of pending resizes, want 1: %v", n, err)
	}
	if err := s.Remove("b"); err != nil {
		t.Fatal(err)
	}
	allocate(wants("3", 2))
	allocate(wants("5", 3)) // never
	allocate(wants("5", 3))
	err = testutil.GatherAndCompare(r, strings.NewReader(`
# HELP kubelet_container_requested_resizes_total How many changes of containers' resources were asked for
# TYPE kubelet_container_requested_resizes_total counter
kubelet_container_requested_resizes_total{operation="increase",requirement="requests",resource="cpu"} 1
# HELP kubelet_pod_deferred_accepted_resizes_total How many resizes were granted after they had waited for room, by what had them tried again
# TYPE kubelet_pod_deferred_accepted_resizes_total counter
kubelet_pod_deferred_accepted_resizes_total{retry_trigger="pods_removed"} 1
# HELP kubelet_pod_infeasible_resizes_total How many resizes were asked for that this node can never grant
# TYPE kubelet_pod_infeasible_resizes_total counter
kubelet_pod_infeasible_resizes_total{reason_detail="insufficient_node_allocatable"} 1
# HELP kubelet_pod_pending_resizes How many pods have not been given the resources that they ask for
# TYPE kubelet_pod_pending_resizes gauge
kubelet_pod_pending_resizes{priority_bucket="medium",reason="infeasible"} 1
`), "kubelet_container_requested_resizes_total", "kubelet_pod_deferred_accepted_resizes_total", "kubelet_pod_infeasible_resizes_total", "kubelet_pod_pending_resizes")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(r, "kubelet_pod_deferred_resize_duration_seconds"); err != nil || n != 1 {
		t.Errorf("%d waits, %v", n, err)
	}
}
