package devicemanager

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics have the kubelet's names.
type metrics struct {
	registrations *prometheus.CounterVec
	allocations   *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_device_plugin_registration_total", Help: "Cumulative number of device plugin registrations. Broken down by resource name.",
		}, []string{"resource_name"}),
		allocations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_device_plugin_alloc_duration_seconds", Help: "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
			Buckets: prometheus.DefBuckets,
		}, []string{"resource_name"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.registrations, m.allocations} {
		if err := r.Register(c); err != nil {
			return m, fmt.Errorf("devicemanager: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m metrics) registered(resource string) { m.registrations.WithLabelValues(resource).Inc() }

func (m metrics) allocated(resource string, took time.Duration) {
	m.allocations.WithLabelValues(resource).Observe(took.Seconds())
}
