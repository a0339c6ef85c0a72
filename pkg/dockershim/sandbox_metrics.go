package dockershim

import (
	"context"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// metric is a metric that a kubelet with CRI as its source serves at /metrics/cadvisor, under
// cAdvisor's name (KEP-2371).
type metric struct {
	name, help string
	kind       cri.MetricType
	value      func(*cri.ContainerStats) (uint64, bool)
}

// Labels of metrics, in addition to those that the kubelet adds.
var (
	containerLabels = []string{"id", "name"}
	networkLabels   = []string{"id", "name", "interface"}
)

// containerMetrics are the metrics of a container. CRI's values are integers, so that times in
// seconds lose their fractions.
var containerMetrics = []metric{
	{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", cri.MetricType_COUNTER,
		func(s *cri.ContainerStats) (uint64, bool) {
			return s.GetCpu().GetUsageCoreNanoSeconds().GetValue() / uint64(time.Second), s.Cpu != nil
		}},
	{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed.", cri.MetricType_GAUGE,
		func(s *cri.ContainerStats) (uint64, bool) {
			return s.GetMemory().GetUsageBytes().GetValue(), s.Memory != nil
		}},
	{"container_memory_working_set_bytes", "Current working set in bytes.", cri.MetricType_GAUGE,
		func(s *cri.ContainerStats) (uint64, bool) {
			return s.GetMemory().GetWorkingSetBytes().GetValue(), s.Memory != nil
		}},
	{"container_memory_rss", "Size of RSS in bytes.", cri.MetricType_GAUGE,
		func(s *cri.ContainerStats) (uint64, bool) {
			return s.GetMemory().GetRssBytes().GetValue(), s.Memory != nil
		}},
	{"container_memory_swap", "Container swap usage in bytes.", cri.MetricType_GAUGE,
		func(s *cri.ContainerStats) (uint64, bool) {
			return s.GetSwap().GetSwapUsageBytes().GetValue(), s.Swap != nil
		}},
	{"container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", cri.MetricType_GAUGE,
		func(s *cri.ContainerStats) (uint64, bool) {
			return s.GetWritableLayer().GetUsedBytes().GetValue(), s.WritableLayer != nil
		}},
}

// interfaceMetric is a metric of a sandbox's network interface.
type interfaceMetric struct {
	name, help string
	value      func(cgroupstats.Interface) uint64
}

var networkMetrics = []interfaceMetric{
	{"container_network_receive_bytes_total", "Cumulative count of bytes received", func(i cgroupstats.Interface) uint64 { return i.RxBytes }},
	{"container_network_receive_packets_total", "Cumulative count of packets received", func(i cgroupstats.Interface) uint64 { return i.RxPackets }},
	{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", func(i cgroupstats.Interface) uint64 { return i.RxDropped }},
	{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", func(i cgroupstats.Interface) uint64 { return i.RxErrors }},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", func(i cgroupstats.Interface) uint64 { return i.TxBytes }},
	{"container_network_transmit_packets_total", "Cumulative count of packets transmitted", func(i cgroupstats.Interface) uint64 { return i.TxPackets }},
	{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", func(i cgroupstats.Interface) uint64 { return i.TxDropped }},
	{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", func(i cgroupstats.Interface) uint64 { return i.TxErrors }},
}

const metricProcesses = "container_processes"

// ListMetricDescriptors describes the metrics of ListPodSandboxMetrics.
func (s *Server) ListMetricDescriptors(context.Context, *cri.ListMetricDescriptorsRequest) (*cri.ListMetricDescriptorsResponse, error) {
	resp := &cri.ListMetricDescriptorsResponse{}
	for _, m := range containerMetrics {
		resp.Descriptors = append(resp.Descriptors, &cri.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: containerLabels})
	}
	for _, m := range networkMetrics {
		resp.Descriptors = append(resp.Descriptors, &cri.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: networkLabels})
	}
	resp.Descriptors = append(resp.Descriptors, &cri.MetricDescriptor{
		Name: metricProcesses, Help: "Number of processes running inside the container.", LabelKeys: containerLabels,
	})
	return resp, nil
}

// ListPodSandboxMetrics returns the metrics of all pods with a running sandbox.
func (s *Server) ListPodSandboxMetrics(ctx context.Context, _ *cri.ListPodSandboxMetricsRequest) (*cri.ListPodSandboxMetricsResponse, error) {
	pods, err := s.podStats(ctx, nil)
	if err != nil {
		return nil, err
	}
	resp := &cri.ListPodSandboxMetricsResponse{}
	for _, p := range pods {
		resp.PodMetrics = append(resp.PodMetrics, podMetrics(p))
	}
	return resp, nil
}

// StreamPodSandboxMetrics is ListPodSandboxMetrics in pieces.
func (s *Server) StreamPodSandboxMetrics(_ *cri.StreamPodSandboxMetricsRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxMetricsResponse]) error {
	all, err := s.ListPodSandboxMetrics(stream.Context(), &cri.ListPodSandboxMetricsRequest{})
	if err != nil {
		return err
	}
	return inChunks(all.PodMetrics, func(part []*cri.PodSandboxMetrics) error {
		return stream.Send(&cri.StreamPodSandboxMetricsResponse{PodSandboxMetrics: part})
	})
}

func podMetrics(p podUsage) *cri.PodSandboxMetrics {
	id, at := p.stats.Attributes.Id, p.stats.Linux.Cpu.Timestamp
	out := &cri.PodSandboxMetrics{PodSandboxId: id}
	add := func(name string, kind cri.MetricType, value uint64, labels ...string) {
		out.Metrics = append(out.Metrics, &cri.Metric{Name: name, Timestamp: at, MetricType: kind, LabelValues: labels, Value: convert.Number(value)})
	}
	for _, m := range networkMetrics {
		for _, i := range p.interfaces {
			add(m.name, cri.MetricType_COUNTER, m.value(i), id, docker.SandboxName, i.Name)
		}
	}
	add(metricProcesses, cri.MetricType_GAUGE, p.stats.Linux.Process.ProcessCount.Value, id, docker.SandboxName)
	for _, c := range p.stats.Linux.Containers {
		metrics := &cri.ContainerMetrics{ContainerId: c.Attributes.Id}
		for _, m := range containerMetrics {
			if value, ok := m.value(c); ok {
				metrics.Metrics = append(metrics.Metrics, &cri.Metric{
					Name: m.name, Timestamp: at, MetricType: m.kind, LabelValues: []string{c.Attributes.Id, c.Attributes.Metadata.Name}, Value: convert.Number(value),
				})
			}
		}
		out.ContainerMetrics = append(out.ContainerMetrics, metrics)
	}
	return out
}
