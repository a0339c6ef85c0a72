package stats

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// scrapeTimeout bounds one scrape of /metrics/resource.
const scrapeTimeout = 10 * time.Second

var (
	byContainer = []string{"container", "namespace", "pod"}
	byPod       = []string{"namespace", "pod"}
)

// collector serves a Source as the kubelet's resource metrics (KEP-1206).
type collector struct {
	source *Source

	nodeCPU, nodeMemory                             *prometheus.Desc
	containerCPU, containerMemory, containerStarted *prometheus.Desc
	containerSwap                                   *prometheus.Desc
	podCPU, podMemory                               *prometheus.Desc
	failed                                          *prometheus.Desc
}

// Metrics is what /metrics/resource serves.
func (s *Source) Metrics() (prometheus.Gatherer, error) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	c := &collector{
		source:           s,
		nodeCPU:          desc("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds"),
		nodeMemory:       desc("node_memory_working_set_bytes", "Current working set of the node in bytes"),
		containerCPU:     desc("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", byContainer...),
		containerMemory:  desc("container_memory_working_set_bytes", "Current working set of the container in bytes", byContainer...),
		containerStarted: desc("container_start_time_seconds", "Start time of the container since unix epoch in seconds", byContainer...),
		containerSwap:    desc("container_swap_usage_bytes", "Current amount of the container swap usage in bytes", byContainer...),
		podCPU:           desc("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", byPod...),
		podMemory:        desc("pod_memory_working_set_bytes", "Current working set of the pod in bytes", byPod...),
		failed:           desc("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise"),
	}
	r := prometheus.NewRegistry()
	return r, r.Register(c)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.nodeCPU, c.nodeMemory, c.containerCPU, c.containerMemory, c.containerStarted, c.containerSwap, c.podCPU, c.podMemory, c.failed} {
		out <- d
	}
}

// Collect implements prometheus.Collector. Each value has the time at which it was
// read.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s, err := c.source.Summary(ctx, false)
	if err != nil {
		klog.ErrorS(err, "Could not find out what the pods use")
		out <- prometheus.MustNewConstMetric(c.failed, prometheus.GaugeValue, 1)
		return
	}
	out <- prometheus.MustNewConstMetric(c.failed, prometheus.GaugeValue, 0)
	cpu := func(d *prometheus.Desc, s *stats.CPUStats, labels ...string) {
		if s != nil && s.UsageCoreNanoSeconds != nil {
			m := prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(*s.UsageCoreNanoSeconds)/float64(time.Second), labels...)
			out <- prometheus.NewMetricWithTimestamp(s.Time.Time, m)
		}
	}
	memory := func(d *prometheus.Desc, s *stats.MemoryStats, labels ...string) {
		if s != nil && s.WorkingSetBytes != nil {
			m := prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(*s.WorkingSetBytes), labels...)
			out <- prometheus.NewMetricWithTimestamp(s.Time.Time, m)
		}
	}
	cpu(c.nodeCPU, s.Node.CPU)
	memory(c.nodeMemory, s.Node.Memory)
	for _, p := range s.Pods {
		cpu(c.podCPU, p.CPU, p.PodRef.Namespace, p.PodRef.Name)
		memory(c.podMemory, p.Memory, p.PodRef.Namespace, p.PodRef.Name)
		for _, ct := range p.Containers {
			labels := []string{ct.Name, p.PodRef.Namespace, p.PodRef.Name}
			cpu(c.containerCPU, ct.CPU, labels...)
			memory(c.containerMemory, ct.Memory, labels...)
			if !ct.StartTime.IsZero() {
				out <- prometheus.MustNewConstMetric(c.containerStarted, prometheus.GaugeValue, float64(ct.StartTime.UnixNano())/float64(time.Second), labels...)
			}
			if ct.Swap != nil && ct.Swap.SwapUsageBytes != nil {
				m := prometheus.MustNewConstMetric(c.containerSwap, prometheus.GaugeValue, float64(*ct.Swap.SwapUsageBytes), labels...)
				out <- prometheus.NewMetricWithTimestamp(ct.Swap.Time.Time, m)
			}
		}
	}
}
