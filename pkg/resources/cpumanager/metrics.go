package cpumanager

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// metrics are the kubelet's of the CPU manager.
type metrics struct {
	requests, errors prometheus.Counter
	perNode          *prometheus.GaugeVec
	alignment        *topologymanager.Alignment
	fullCores        bool
}

// newMetrics registers the metrics of m, whose state is there; without a registerer nobody sees them.
func newMetrics(m *Manager, r prometheus.Registerer, a *topologymanager.Alignment) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() int) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return float64(value())
		})
	}
	x := &metrics{
		requests: counter("kubelet_cpu_manager_pinning_requests_total", "The number of cpu core allocations which required pinning."),
		errors:   counter("kubelet_cpu_manager_pinning_errors_total", "The number of cpu core allocations which required pinning failed."),
		perNode: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubelet_cpu_manager_allocation_per_numa", Help: "Number of CPUs allocated per NUMA node",
		}, []string{"numa_node"}),
		alignment: a, fullCores: m.policy.options.FullCores,
	}
	a.Expect(topologymanager.ContainerScope, topologymanager.PhysicalCPU)
	if r == nil {
		return x, nil
	}
	return x, errors.Join(r.Register(x.requests), r.Register(x.errors), r.Register(x.perNode),
		r.Register(gauge("kubelet_cpu_manager_shared_pool_size_millicores", "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.",
			func() int { return 1000 * m.state.shared.Difference(m.policy.reserved).Size() })),
		r.Register(gauge("kubelet_cpu_manager_exclusive_cpu_allocation_count", "The total number of CPUs exclusively allocated to containers running on this node",
			func() int { return m.state.exclusive().Size() })))
}

// show is called with the manager's lock held.
func (x *metrics) show(t Topology, s state) {
	own := t.perNode(s.exclusive())
	for node := range t.sizes(numaNode) {
		x.perNode.WithLabelValues(strconv.Itoa(node)).Set(float64(own[node]))
	}
}

// pinned counts containers that got CPUs of their own, refused one that could not.
func (x *metrics) pinned(containers int) {
	for range containers {
		x.requests.Inc()
		if x.fullCores {
			x.alignment.Granted(topologymanager.ContainerScope, topologymanager.PhysicalCPU)
		}
	}
}

func (x *metrics) refused() {
	x.requests.Inc()
	x.errors.Inc()
	if x.fullCores {
		x.alignment.Failed(topologymanager.ContainerScope, topologymanager.PhysicalCPU)
	}
}
