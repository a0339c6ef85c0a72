package podresources

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// metrics have the kubelet's names. What the rate limit turns away is not counted, as there.
type metrics struct{ all, lists, gets, allocatables, getErrors *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (metrics, error) {
	set := metricset.New(r)
	counter := func(name, help string) *prometheus.CounterVec {
		return set.Counters("kubelet_pod_resources_endpoint_"+name, help+" Broken down by server api version.", "server_api_version")
	}
	m := metrics{
		all:          counter("requests_total", "Cumulative number of requests to the PodResource endpoint."),
		lists:        counter("requests_list", "Number of requests to the PodResource List endpoint."),
		gets:         counter("requests_get", "Number of requests to the PodResource Get endpoint."),
		allocatables: counter("requests_get_allocatable", "Number of requests to the PodResource GetAllocatableResources endpoint."),
		getErrors:    counter("errors_get", "Number of requests to the PodResource Get endpoint which returned error."),
	}
	// These requests cannot fail; who watches their errors finds that there are none.
	counter("errors_list", "Number of requests to the PodResource List endpoint which returned error.").WithLabelValues(versionV1)
	counter("errors_get_allocatable", "Number of requests to the PodResource GetAllocatableResources endpoint which returned error.").WithLabelValues(versionV1)
	if err := set.Err(); err != nil {
		return m, fmt.Errorf("podresources: register metrics: %w", err)
	}
	return m, nil
}

func (m metrics) total(version string) { m.all.WithLabelValues(version).Inc() }

func (m metrics) list(version string) {
	m.total(version)
	m.lists.WithLabelValues(version).Inc()
}

func (m metrics) get(version string) {
	m.total(version)
	m.gets.WithLabelValues(version).Inc()
}

func (m metrics) getFailed(version string) { m.getErrors.WithLabelValues(version).Inc() }

func (m metrics) getAllocatable(version string) {
	m.total(version)
	m.allocatables.WithLabelValues(version).Inc()
}
