package worker

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
)

// metrics are the workers' own, under the kubelet's names.
type metrics struct {
	steps  *prometheus.HistogramVec
	starts prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_pod_worker_duration_seconds", Help: "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
			Buckets: prometheus.DefBuckets,
		}, []string{"operation_type"}),
		starts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_pod_start_duration_seconds", Help: "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
			Buckets: []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600},
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.steps, m.starts} {
		if err := r.Register(c); err != nil {
			return m, fmt.Errorf("worker: register metrics: %w", err)
		}
	}
	return m, nil
}

// step counts a step that ends now. What changes a pod's containers has an operation: the
// first sync creates, each later one syncs, whatever it was that woke the worker.
func (m metrics) step(st step, began time.Time, now func() time.Time) {
	operation := ""
	switch {
	case st.phase == Syncing && st.after.IsZero():
		operation = "create"
	case st.phase == Syncing:
		operation = "sync"
	case st.phase == Terminating:
		operation = "kill"
	default:
		return
	}
	m.steps.WithLabelValues(operation).Observe(now().Sub(began).Seconds())
}

// started counts a pod that has begun to run, from when this node has taken it on.
func (m metrics) started(old, status v1.PodStatus, now time.Time) {
	if old.Phase == v1.PodPending && status.Phase == v1.PodRunning && status.StartTime != nil {
		m.starts.Observe(now.Sub(status.StartTime.Time).Seconds())
	}
}
