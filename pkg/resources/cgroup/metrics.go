package cgroup

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// timed is a driver whose operations are counted, under the kubelet's name.
type timed struct {
	driver
	took *prometheus.HistogramVec
}

// counted makes the operations of a driver known; without a Registerer nobody asks.
func counted(k driver, r prometheus.Registerer) (driver, error) {
	if r == nil {
		return k, nil
	}
	t := timed{k, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "kubelet_cgroup_manager_duration_seconds", Help: "Duration in seconds for cgroup manager operations. Broken down by method.",
		Buckets: prometheus.DefBuckets,
	}, []string{"operation_type"})}
	if err := r.Register(t.took); err != nil {
		return nil, fmt.Errorf("cgroup: register metrics: %w", err)
	}
	return t, nil
}

// export makes known how much memory is protected for pods, 0 where none is. It is counted at each scrape.
func (t *Tree) export(r prometheus.Registerer) error {
	set := metricset.New(r)
	set.Read("kubelet_memory_qos_node_memory_min_bytes", "How much memory the kernel leaves to Guaranteed pods whatever happens (memory.min)",
		func() float64 { return float64(t.requests().guaranteed) })
	set.Read("kubelet_memory_qos_node_memory_low_bytes", "How much memory the kernel leaves to Burstable pods as long as it can (memory.low)",
		func() float64 { return float64(t.requests().burstable) })
	if err := set.Err(); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// write makes a cgroup or changes it: the kubelet calls both update when it is there.
func (t timed) write(n name, v Values) error {
	began := time.Now()
	err := t.driver.write(n, v)
	t.took.WithLabelValues("update").Observe(time.Since(began).Seconds())
	return err
}

func (t timed) remove(n name, kill bool) error {
	began := time.Now()
	err := t.driver.remove(n, kill)
	t.took.WithLabelValues("destroy").Observe(time.Since(began).Seconds())
	return err
}
