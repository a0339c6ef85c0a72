package provider

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// metrics count the calls of plug-ins by their names, which are those of the configuration.
type metrics struct {
	errors *prometheus.CounterVec
	took   *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	set := metricset.New(r)
	m := metrics{
		errors: set.Counters("kubelet_credential_provider_plugin_errors_total", "How many calls of plug-ins that provide credentials failed", "plugin_name"),
		took:   set.Histograms("kubelet_credential_provider_plugin_duration", "How many seconds calls of plug-ins that provide credentials took", nil, "plugin_name"),
	}
	if err := set.Err(); err != nil {
		return m, fmt.Errorf("credential providers: %w", err)
	}
	return m, nil
}

func (m metrics) called(name string, took time.Duration, err error) {
	m.took.WithLabelValues(name).Observe(took.Seconds())
	if err != nil {
		m.errors.WithLabelValues(name).Inc()
	}
}
