package stats

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"
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
	containerSwap, containerSwapLimit               *prometheus.Desc
	podCPU, podMemory, podSwap, nodeSwap            *prometheus.Desc
	failed, failedOld                               *prometheus.Desc
}

// Metrics is what /metrics/resource serves.
func (s *Source) Metrics() (prometheus.Gatherer, error) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	c := &collector{
		source:             s,
		nodeCPU:            desc("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds"),
		nodeMemory:         desc("node_memory_working_set_bytes", "Current working set of the node in bytes"),
		containerCPU:       desc("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", byContainer...),
		containerMemory:    desc("container_memory_working_set_bytes", "Current working set of the container in bytes", byContainer...),
		containerStarted:   desc("container_start_time_seconds", "Start time of the container since unix epoch in seconds", byContainer...),
		containerSwap:      desc("container_swap_usage_bytes", "Current amount of the container swap usage in bytes. Reported only on non-windows systems", byContainer...),
		containerSwapLimit: desc("container_swap_limit_bytes", "Current amount of the container swap limit in bytes. Reported only on non-windows systems", byContainer...),
		podSwap:            desc("pod_swap_usage_bytes", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems", byPod...),
		nodeSwap:           desc("node_swap_usage_bytes", "Current swap usage of the node in bytes. Reported only on non-windows systems"),
		podCPU:             desc("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", byPod...),
		podMemory:          desc("pod_memory_working_set_bytes", "Current working set of the pod in bytes", byPod...),
		failedOld:          desc("scrape_error", "(Deprecated since 1.29.0) 1 if there was an error while getting container metrics, 0 otherwise"),
		failed:             desc("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise"),
	}
	r := prometheus.NewRegistry()
	return r, r.Register(c)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.nodeCPU, c.nodeMemory, c.nodeSwap, c.containerCPU, c.containerMemory, c.containerStarted, c.containerSwap, c.containerSwapLimit,
		c.podCPU, c.podMemory, c.podSwap, c.failed, c.failedOld,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector. Each value has the time at which it was
// read.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s, err := c.source.Summary(ctx, true)
	failed := 0.0
	if err != nil {
		klog.ErrorS(err, "Could not find out what the pods use")
		failed = 1
	}
	for _, d := range []*prometheus.Desc{c.failed, c.failedOld} {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, failed)
	}
	if err != nil {
		return
	}
	p := points{out}
	p.cpu(c.nodeCPU, s.Node.CPU)
	p.memory(c.nodeMemory, s.Node.Memory)
	p.swap(c.nodeSwap, s.Node.Swap)
	for _, pod := range s.Pods {
		who := []string{pod.PodRef.Namespace, pod.PodRef.Name}
		p.cpu(c.podCPU, pod.CPU, who...)
		p.memory(c.podMemory, pod.Memory, who...)
		p.swap(c.podSwap, pod.Swap, who...)
		for _, ct := range pod.Containers {
			who := []string{ct.Name, pod.PodRef.Namespace, pod.PodRef.Name}
			p.cpu(c.containerCPU, ct.CPU, who...)
			p.memory(c.containerMemory, ct.Memory, who...)
			p.swap(c.containerSwap, ct.Swap, who...)
			if ct.Swap != nil && ct.Swap.SwapAvailableBytes != nil {
				p.add(c.containerSwapLimit, prometheus.GaugeValue, float64(*ct.Swap.SwapAvailableBytes+ptr.Deref(ct.Swap.SwapUsageBytes, 0)), ct.Swap.Time, who)
			}
			if !ct.StartTime.IsZero() {
				p.add(c.containerStarted, prometheus.GaugeValue, float64(ct.StartTime.UnixNano())/float64(time.Second), metav1.Time{}, who)
			}
		}
	}
}

// points sends values with the time at which they were read, or without if there is none.
type points struct{ out chan<- prometheus.Metric }

func (p points) add(d *prometheus.Desc, kind prometheus.ValueType, value float64, at metav1.Time, labels []string) {
	m, err := prometheus.NewConstMetric(d, kind, value, labels...)
	if err != nil {
		return // a name that is no text
	}
	if !at.IsZero() {
		m = prometheus.NewMetricWithTimestamp(at.Time, m)
	}
	p.out <- m
}

func (p points) cpu(d *prometheus.Desc, s *stats.CPUStats, labels ...string) {
	if s != nil && s.UsageCoreNanoSeconds != nil {
		p.add(d, prometheus.CounterValue, float64(*s.UsageCoreNanoSeconds)/float64(time.Second), s.Time, labels)
	}
}

func (p points) memory(d *prometheus.Desc, s *stats.MemoryStats, labels ...string) {
	if s != nil && s.WorkingSetBytes != nil {
		p.add(d, prometheus.GaugeValue, float64(*s.WorkingSetBytes), s.Time, labels)
	}
}

func (p points) swap(d *prometheus.Desc, s *stats.SwapStats, labels ...string) {
	if s != nil && s.SwapUsageBytes != nil {
		p.add(d, prometheus.GaugeValue, float64(*s.SwapUsageBytes), s.Time, labels)
	}
}
