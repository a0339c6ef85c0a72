package pleg

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// running counts what the cache shows, when somebody asks.
type running struct {
	pleg                   *PLEG
	pods, containers, seen *prometheus.Desc
}

func newRunning(p *PLEG) *running {
	return &running{
		pleg:       p,
		pods:       prometheus.NewDesc("kubelet_running_pods", "Number of pods that have a running pod sandbox", nil, nil),
		containers: prometheus.NewDesc("kubelet_running_containers", "Number of containers currently running", []string{"container_state"}, nil),
		seen:       prometheus.NewDesc("kubelet_pleg_last_seen_seconds", "Timestamp in seconds when PLEG was last seen active.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (r *running) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{r.pods, r.containers, r.seen} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (r *running) Collect(out chan<- prometheus.Metric) {
	pods, containers := count(r.pleg.Pods())
	out <- prometheus.MustNewConstMetric(r.pods, prometheus.GaugeValue, float64(pods))
	for state, n := range containers {
		out <- prometheus.MustNewConstMetric(r.containers, prometheus.GaugeValue, float64(n), string(state))
	}
	r.pleg.mu.Lock()
	seen := r.pleg.seen
	r.pleg.mu.Unlock()
	out <- prometheus.MustNewConstMetric(r.seen, prometheus.GaugeValue, float64(seen.UnixNano())/float64(time.Second))
}

// count returns the pods with a running sandbox, and the containers by state.
func count(all []*actual.Pod) (pods int, containers map[actual.State]int) {
	containers = map[actual.State]int{actual.StateRunning: 0}
	for _, p := range all {
		for _, s := range p.Sandboxes {
			if s.State == actual.StateRunning {
				pods++
				break
			}
		}
		for _, c := range p.Containers {
			containers[c.State]++
		}
	}
	return pods, containers
}
