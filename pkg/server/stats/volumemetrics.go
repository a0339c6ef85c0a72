package stats

import (
	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"
)

// volumeCollector serves what volumes of claims occupy as kubelet_volume_stats_*.
type volumeCollector struct {
	source *Source
	pods   func() []*v1.Pod
	descs  []*prometheus.Desc
}

// volumeValues are the metrics of one volume, in the order of volumeCollector.descs.
var volumeValues = []struct {
	name, help string
	of         func(*stats.FsStats) *uint64
}{
	{"capacity_bytes", "Capacity in bytes of the volume", func(f *stats.FsStats) *uint64 { return f.CapacityBytes }},
	{"available_bytes", "Number of available bytes in the volume", func(f *stats.FsStats) *uint64 { return f.AvailableBytes }},
	{"used_bytes", "Number of used bytes in the volume", func(f *stats.FsStats) *uint64 { return f.UsedBytes }},
	{"inodes", "Maximum number of inodes in the volume", func(f *stats.FsStats) *uint64 { return f.Inodes }},
	{"inodes_free", "Number of free inodes in the volume", func(f *stats.FsStats) *uint64 { return f.InodesFree }},
	{"inodes_used", "Number of used inodes in the volume", func(f *stats.FsStats) *uint64 { return f.InodesUsed }},
}

// Volumes returns the metrics of the claims of those pods, for /metrics. Asking for them has
// the volumes measured.
func (s *Source) Volumes(pods func() []*v1.Pod) prometheus.Collector {
	c := &volumeCollector{source: s, pods: pods}
	for _, v := range volumeValues {
		c.descs = append(c.descs, prometheus.NewDesc("kubelet_volume_stats_"+v.name, v.help, []string{"namespace", "persistentvolumeclaim"}, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *volumeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *volumeCollector) Collect(out chan<- prometheus.Metric) {
	told := map[stats.PVCReference]bool{} // several pods may have the claim
	for _, pod := range c.pods() {
		if status, ok := c.source.cfg.Status(pod.UID); !ok || status.Phase != v1.PodRunning {
			continue
		}
		for _, v := range c.source.claims(pod) {
			if told[*v.PVCRef] {
				continue
			}
			told[*v.PVCRef] = true
			for i, value := range volumeValues {
				m, err := prometheus.NewConstMetric(c.descs[i], prometheus.GaugeValue, float64(ptr.Deref(value.of(&v.FsStats), 0)), v.PVCRef.Namespace, v.PVCRef.Name)
				if err == nil {
					out <- m
				}
			}
		}
	}
}
