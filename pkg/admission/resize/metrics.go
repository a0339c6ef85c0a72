package resize

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Why a resize can never be granted, in the kubelet's words for metrics.
const (
	detailCPUManager    = "guaranteed_pod_cpu_manager_static_policy"
	detailMemoryManager = "guaranteed_pod_memory_manager_static_policy"
	detailAllocatable   = "insufficient_node_allocatable"
)

type metrics struct {
	infeasible, accepted, requested *prometheus.CounterVec
	deferred                        *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, s *Store) (metrics, error) {
	set := metricset.New(r)
	m := metrics{
		requested:  set.Counters("kubelet_container_requested_resizes_total", "How many changes of containers' resources were asked for", "resource", "requirement", "operation"),
		infeasible: set.Counters("kubelet_pod_infeasible_resizes_total", "How many resizes were asked for that this node can never grant", "reason_detail"),
		accepted:   set.Counters("kubelet_pod_deferred_accepted_resizes_total", "How many resizes were granted after they had waited for room, by what had them tried again", "retry_trigger"),
		deferred: set.Histograms("kubelet_pod_deferred_resize_duration_seconds", "How long resizes waited for room",
			[]float64{5, 10, 15, 20, 30, 45, 60, 90, 120, 150, 180, 300, 600, 1200, 1800, 3600}, "resolution", "priority_bucket"),
	}
	set.ReadAll("kubelet_pod_pending_resizes", "How many pods have not been given the resources that they ask for", []string{"reason", "priority_bucket"}, s.givePending)
	if err := set.Err(); err != nil {
		return m, fmt.Errorf("resize: %w", err)
	}
	return m, nil
}

// wait is a pod that has not been given what it asks for.
type wait struct {
	reason     string
	generation int64 // of the pod that asks
	since      time.Time
	bucket     string // of its priority
	freed      bool   // another pod has given something back since
}

// after returns the wait that follows, since when it lasts included, and whether another resize is
// asked for than before.
func (w wait) after(pod *v1.Pod, reason string, now time.Time) (next wait, another bool) {
	next = wait{reason: reason, generation: pod.Generation, since: now, bucket: priorityBucket(pod)}
	if w.reason == reason {
		next.since = w.since
	}
	return next, w.reason != reason || w.generation != pod.Generation
}

// trigger is what had a resize tried again that is granted now.
func (w wait) trigger(pod *v1.Pod) string {
	switch {
	case w.freed:
		return "pods_removed"
	case w.generation != pod.Generation:
		return "pod_updated"
	}
	return "periodic_retry"
}

func (m metrics) resolved(w wait, resolution string, now time.Time) {
	if w.reason == v1.PodReasonDeferred {
		m.deferred.WithLabelValues(resolution, w.bucket).Observe(now.Sub(w.since).Seconds())
	}
}

func (s *Store) givePending(give metricset.Give) {
	count := map[[2]string]int{}
	s.mu.Lock()
	for _, w := range s.waiting {
		count[[2]string{strings.ToLower(w.reason), w.bucket}]++
	}
	s.mu.Unlock()
	for labels, n := range count {
		give(float64(n), labels[:]...)
	}
}

// priorityBucket is the kubelet's class of a pod's priority.
func priorityBucket(pod *v1.Pod) string {
	p := int32(0)
	if pod.Spec.Priority != nil {
		p = *pod.Spec.Priority
	}
	switch {
	case p >= 2_000_000_000:
		return "system-critical"
	case p >= 100_000:
		return "high"
	case p > 0:
		return "medium"
	case p == 0:
		return "normal"
	case p > -1000:
		return "low"
	}
	return "very-low"
}

// Requested counts what a changed pod asks for that it did not ask for before.
func (s *Store) Requested(old, now *v1.Pod) {
	for kind, before := range pods.Containers(old) {
		after, _ := pods.Container(now, before.Name)
		if after == nil || kind == pods.InitContainer {
			continue
		}
		for name, label := range map[v1.ResourceName]string{v1.ResourceCPU: "cpu", v1.ResourceMemory: "memory"} {
			s.metrics.asked(label, "requests", before.Resources.Requests[name], after.Resources.Requests[name])
			s.metrics.asked(label, "limits", before.Resources.Limits[name], after.Resources.Limits[name])
		}
	}
}

func (m metrics) asked(name, requirement string, old, now resource.Quantity) {
	if op := operation(old, now); op != "" {
		m.requested.WithLabelValues(name, requirement, op).Inc()
	}
}

// operation returns what is done to a quantity; none is zero.
func operation(old, now resource.Quantity) string {
	switch c := now.Cmp(old); {
	case c == 0:
		return ""
	case old.IsZero():
		return "add"
	case now.IsZero():
		return "remove"
	case c > 0:
		return "increase"
	}
	return "decrease"
}
