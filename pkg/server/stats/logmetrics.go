package stats

import (
	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// logCollector tells what the logs of running containers occupy.
type logCollector struct {
	source *Source
	pods   func() []*v1.Pod
	used   *prometheus.Desc
}

// LogSizes returns the sizes of the logs of those pods' containers, for /metrics. Asking for them has the logs
// measured; those that are not yet are told next time.
func (s *Source) LogSizes(pods func() []*v1.Pod) prometheus.Collector {
	return &logCollector{s, pods, prometheus.NewDesc("kubelet_container_log_filesystem_used_bytes",
		"How much the logs of a container occupy, those of earlier runs included", []string{"uid", "namespace", "pod", "container"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *logCollector) Describe(out chan<- *prometheus.Desc) { out <- c.used }

// Collect implements prometheus.Collector.
func (c *logCollector) Collect(out chan<- prometheus.Metric) {
	var root stats.FsStats // of which only the use by logs is told here
	for _, pod := range c.pods() {
		status, ok := c.source.cfg.Status(pod.UID)
		if !ok {
			continue
		}
		for _, list := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
			for i := range list {
				if list[i].State.Running == nil {
					continue
				}
				s := c.source.logs(pod, list[i].Name, &root)
				if s == nil || s.UsedBytes == nil {
					continue
				}
				m, err := prometheus.NewConstMetric(c.used, prometheus.GaugeValue, float64(*s.UsedBytes), string(pod.UID), pod.Namespace, pod.Name, list[i].Name)
				if err == nil {
					out <- m
				}
			}
		}
	}
}
