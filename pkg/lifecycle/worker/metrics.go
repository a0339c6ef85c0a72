package worker

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstart"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// metrics are the workers' own, under the kubelet's names. What pods there are is counted when somebody
// asks.
type metrics struct {
	steps      *prometheus.HistogramVec
	waits      prometheus.Histogram
	starts     prometheus.Histogram
	containers prometheus.Histogram
	restarted  *prometheus.CounterVec
	orphans    prometheus.Counter
}

func newMetrics(r prometheus.Registerer, w *Workers) (metrics, error) {
	set := metricset.New(r)
	m := metrics{
		steps:      set.Histograms("kubelet_pod_worker_duration_seconds", "How long one step of a pod took: create, sync or kill", nil, "operation_type"),
		waits:      set.Histogram("kubelet_pod_worker_start_duration_seconds", "How long it took from when a pod was first seen until its worker began", nil),
		starts:     set.Histogram("kubelet_pod_start_duration_seconds", "How long it took from when a pod was first seen until it ran", podstart.Buckets),
		containers: set.Histogram("kubelet_containers_per_pod_count", "How many containers the pods have that were started", prometheus.ExponentialBuckets(1, 2, 5)),
		restarted:  set.Counters("kubelet_restarted_pods_total", "How many pods came back with the same UID before they were gone", "static"),
		orphans:    set.Counter("kubelet_orphaned_runtime_pods_total", "How many pods were found at the runtime that nobody here had known"),
	}
	for _, static := range []bool{false, true} {
		m.restarted.WithLabelValues(isStatic(static)) // 0 is told as well
	}
	set.ReadAll("kubelet_active_pods", "How many pods use the node: admitted and not over", []string{"static"}, w.giveActive)
	set.ReadAll("kubelet_working_pods", "How many pods have a worker, by how far they are and by whether anybody wants them", []string{"lifecycle", "config", "static"}, w.giveWorking)
	set.Read("kubelet_pod_in_progress_resizes", "How many pods are being given other resources", w.resizing)
	if err := set.Err(); err != nil {
		return m, fmt.Errorf("worker: %w", err)
	}
	return m, nil
}

func (m metrics) step(st step, began time.Time, now func() time.Time) {
	if operation := st.operation(); operation != "" {
		m.steps.WithLabelValues(operation).Observe(now().Sub(began).Seconds())
	}
}

// operation is the kubelet's name of a step's kind; "" if it has none.
func (st step) operation() string {
	switch {
	case st.phase == Syncing && st.after.IsZero():
		return "create"
	case st.phase == Syncing:
		return "sync"
	case st.phase == Terminating:
		return "kill"
	}
	return ""
}

// begun counts the first step of a pod that is to run.
func (m metrics) begun(pod *v1.Pod, now time.Time) {
	if pod == nil {
		return
	}
	m.containers.Observe(float64(len(pod.Spec.Containers)))
	if seen, ok := firstSeen(pod); ok {
		m.waits.Observe(now.Sub(seen).Seconds())
	}
}

func (m metrics) started(pod *v1.Pod, old, status v1.PodStatus, now time.Time) {
	if old.Phase != v1.PodPending || status.Phase != v1.PodRunning {
		return
	}
	if seen, ok := firstSeen(pod); ok {
		m.starts.Observe(now.Sub(seen).Seconds())
	}
}

// firstSeen returns when a source had the pod for the first time.
func firstSeen(pod *v1.Pod) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, pod.Annotations[pods.AnnotationConfigSeen])
	return t, err == nil
}

// isStatic is the value of the label "static".
func isStatic(static bool) string {
	if static {
		return "true"
	}
	return ""
}

func (w *Workers) giveActive(give metricset.Give) {
	count := map[bool]int{false: 0, true: 0}
	for _, pod := range w.Pods(Terminated) {
		count[pods.IsStatic(pod)]++
	}
	for static, n := range count {
		give(float64(n), isStatic(static))
	}
}

// working is what the workers are counted by.
type working struct{ lifecycle, config, static string }

// countedAs returns what a worker is counted as.
func (s *state) countedAs() working {
	c := working{"sync", "desired", isStatic(s.static)}
	switch s.phase {
	case Terminating:
		c.lifecycle = "terminating"
	case Terminated, Removing:
		c.lifecycle = "terminated"
	}
	switch {
	case s.pod == nil:
		c.config, c.static = "runtime_only", "unknown"
	case s.removed && s.wantedAgain == nil:
		c.config = "orphan"
	}
	return c
}

func (w *Workers) giveWorking(give metricset.Give) {
	count := map[working]int{}
	for _, lifecycle := range []string{"sync", "terminating", "terminated"} {
		count[working{lifecycle, "runtime_only", "unknown"}] = 0
		for _, static := range []string{"", "true"} {
			count[working{lifecycle, "desired", static}], count[working{lifecycle, "orphan", static}] = 0, 0
		}
	}
	w.mu.Lock()
	for _, s := range w.states {
		count[s.countedAs()]++
	}
	w.mu.Unlock()
	for c, n := range count {
		give(float64(n), c.lifecycle, c.config, c.static)
	}
}

func (w *Workers) resizing() (n float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.states {
		if s.resize.InProgress && s.phase == Syncing {
			n++
		}
	}
	return n
}
