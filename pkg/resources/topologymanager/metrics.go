package topologymanager

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Boundary is what resources are aligned within.
type Boundary string

// Scope is what is aligned as a whole, see topologyManagerScope.
type Scope string

// The boundaries and scopes that the kubelet counts by.
const (
	PhysicalCPU Boundary = "physical_cpu"
	NUMANode    Boundary = "numa_node"
	UncoreCache Boundary = "uncore_cache"

	ContainerScope Scope = "container"
	PodScope       Scope = "pod"
)

// Alignment counts how often what a container was given was aligned, and how often it had to be and
// could not. The managers that give share it. A nil Alignment counts nothing.
type Alignment struct{ granted, failed *prometheus.CounterVec }

// NewAlignment registers the metrics.
func NewAlignment(r prometheus.Registerer) (*Alignment, error) {
	labels := []string{"scope", "boundary"}
	a := &Alignment{
		granted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_container_aligned_compute_resources_count",
			Help: "Cumulative number of aligned compute resources allocated to containers by alignment type.",
		}, labels),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_container_aligned_compute_resources_failure_count",
			Help: "Cumulative number of failures to allocate aligned compute resources to containers by alignment type.",
		}, labels),
	}
	return a, errors.Join(r.Register(a.granted), r.Register(a.failed))
}

// Granted and Failed count once; Expect makes the series appear, with what they have counted.
func (a *Alignment) Granted(s Scope, b Boundary) { a.add(true, s, b, 1) }
func (a *Alignment) Failed(s Scope, b Boundary)  { a.add(false, s, b, 1) }
func (a *Alignment) Expect(s Scope, b Boundary)  { a.add(true, s, b, 0); a.add(false, s, b, 0) }

func (a *Alignment) add(granted bool, s Scope, b Boundary, n float64) {
	switch {
	case a == nil:
	case granted:
		a.granted.WithLabelValues(string(s), string(b)).Add(n)
	default:
		a.failed.WithLabelValues(string(s), string(b)).Add(n)
	}
}

// admissions counts pods that are judged.
type admissions struct {
	requests, errors prometheus.Counter
	took             prometheus.Histogram
}

func newAdmissions(r prometheus.Registerer) (*admissions, error) {
	a := &admissions{
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_topology_manager_admission_requests_total", Help: "The number of admission requests where resources have to be aligned.",
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_topology_manager_admission_errors_total", Help: "The number of admission request failures where resources could not be aligned.",
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_topology_manager_admission_duration_ms", Help: "Duration in milliseconds to serve a pod admission request.",
			Buckets: prometheus.ExponentialBuckets(.05, 2, 15),
		}),
	}
	if r == nil {
		return a, nil
	}
	return a, errors.Join(r.Register(a.requests), r.Register(a.errors), r.Register(a.took))
}

func (a *admissions) observe(began time.Time, failed bool) {
	a.requests.Inc()
	a.took.Observe(float64(time.Since(began).Microseconds()) / 1000)
	if failed {
		a.errors.Inc()
	}
}
