package volume

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// metrics are those of the kubelet's volume manager.
type metrics struct {
	operations      *prometheus.HistogramVec
	measured        *prometheus.HistogramVec
	orphans, failed prometheus.Gauge // of the last sweep
}

func newMetrics(r prometheus.Registerer, m *Manager, wanted func() []*v1.Pod) (metrics, error) {
	set := metricset.New(r)
	c := metrics{
		operations: set.Histograms("storage_operation_duration_seconds", "How long it took to mount a volume for a pod, or to unmount a pod's volumes",
			[]float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600}, "volume_plugin", "operation_name", "status", "migrated"),
		measured: set.Histograms("kubelet_volume_metric_collection_duration_seconds", "How long it took to find out what a volume occupies, by how: du, statfs, or by which CSI driver",
			nil, "metric_source"),
		orphans: set.Gauge("kubelet_orphan_pod_cleaned_volumes", "How many pods that are gone still had directories at the last look"),
		failed:  set.Gauge("kubelet_orphan_pod_cleaned_volumes_errors", "How many of these could not be removed at the last look"),
	}
	set.ReadAll("volume_manager_total_volumes", "How many volumes the pods of this node want, and how many are mounted", []string{"plugin_name", "state"}, func(give metricset.Give) {
		m.giveVolumes(wanted, give)
	})
	if err := set.Err(); err != nil {
		return c, fmt.Errorf("volume manager: %w", err)
	}
	return c, nil
}

// plugin is what metrics call the kind of a volume.
type plugin struct {
	name  string
	moved bool // from a kind that had been part of Kubernetes to a CSI driver
	block bool
}

// mounted is what the volumes of a pod are that this process has mounted, by volume.
type mounted map[string]plugin

// observe counts one mounting of a volume. What was mounted before is looked at in each sync: that is none,
// unless its content is written anew, as in the kubelet.
func (m *Manager) observe(ctx context.Context, pod *v1.Pod, v *v1.Volume, k kind, took time.Duration, err error) {
	p := pluginOf(v, m.boundTo(pod.UID, v.Name))
	m.mu.Lock()
	_, known := m.mounted[pod.UID][v.Name]
	if err == nil && !known {
		if m.mounted[pod.UID] == nil {
			m.mounted[pod.UID] = mounted{}
		}
		m.mounted[pod.UID][v.Name] = p
	}
	m.mu.Unlock()
	if !known || err != nil {
		m.note(ctx, pod.UID, v.Name, p, took, err)
	}
	if _, written := k.(*writtenFiles); known && err == nil && !written {
		return
	}
	operation := "volume_mount"
	if p.block {
		operation = "map_volume"
	}
	m.metrics.operation(m.nameable(p), operation, took, err)
}

// note notes in the journal that a volume was set up for the first time, or was not.
func (m *Manager) note(ctx context.Context, uid types.UID, name string, p plugin, took time.Duration, err error) {
	e := journal.Event{Kind: journal.Volume, Pod: uid, Name: name, Reason: p.name, Took: took}
	if err != nil {
		e.Err = bounds.Cut(err.Error(), journal.MaxText)
	}
	m.journal.Note(journal.Within(ctx, e))
}

// nameable leaves out the driver of a volume that has not registered: whoever makes pods makes up its name, and series
// are kept for as long as the agent runs.
func (m *Manager) nameable(p plugin) plugin {
	if driver, ok := strings.CutPrefix(p.name, csiPlugin+":"); ok && (m.csi == nil || !m.csi.Known(driver)) {
		p.name = csiPlugin
	}
	return p
}

// observeEnd counts the unmounting of a pod's volumes, which go together.
func (m *Manager) observeEnd(uid types.UID, took time.Duration, err error) {
	m.mu.Lock()
	all := m.mounted[uid]
	if err == nil {
		delete(m.mounted, uid)
	}
	m.mu.Unlock()
	for _, p := range all {
		operation := "volume_unmount"
		if p.block {
			operation = "unmap_volume"
		}
		m.metrics.operation(p, operation, took, err)
	}
}

func (c metrics) operation(p plugin, name string, took time.Duration, err error) {
	status := "success"
	if err != nil {
		status = "fail-unknown"
	}
	c.operations.WithLabelValues(p.name, name, status, strconv.FormatBool(p.moved)).Observe(took.Seconds())
}

func (m *Manager) giveVolumes(wanted func() []*v1.Pod, give metricset.Give) {
	count := map[[2]string]int{}
	if wanted != nil {
		for _, pod := range wanted() {
			for i := range pod.Spec.Volumes {
				v := &pod.Spec.Volumes[i]
				count[[2]string{pluginOf(v, m.boundTo(pod.UID, v.Name)).name, "desired_state_of_world"}]++
			}
		}
	}
	m.mu.Lock()
	for _, all := range m.mounted {
		for _, p := range all {
			count[[2]string{p.name, "actual_state_of_world"}]++
		}
	}
	m.mu.Unlock()
	for labels, n := range count {
		give(float64(n), labels[:]...)
	}
}

// pluginOf returns what metrics call a volume; pv is what its claim is bound to, nil if there is none or
// that is not known yet.
func pluginOf(v *v1.Volume, pv *v1.PersistentVolume) plugin {
	if pv != nil {
		return pluginOfPersistent(pv)
	}
	name := "N/A"
	switch s := v.VolumeSource; {
	case s.EmptyDir != nil:
		name = "kubernetes.io/empty-dir"
	case s.HostPath != nil:
		name = "kubernetes.io/host-path"
	case s.NFS != nil:
		name = "kubernetes.io/nfs"
	case s.ISCSI != nil:
		name = iscsiPlugin
	case s.CSI != nil:
		name = "kubernetes.io/csi:" + s.CSI.Driver
	case s.Image != nil:
		name = "kubernetes.io/image"
	case s.ConfigMap != nil:
		name = "kubernetes.io/configmap"
	case s.Secret != nil:
		name = "kubernetes.io/secret"
	case s.DownwardAPI != nil:
		name = "kubernetes.io/downward-api"
	case s.Projected != nil:
		name = "kubernetes.io/projected"
	}
	return plugin{name: name, moved: name == "N/A" && isMoved(v)}
}

func pluginOfPersistent(pv *v1.PersistentVolume) plugin {
	p := plugin{name: "N/A", block: pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == v1.PersistentVolumeBlock}
	if by, err := moved(pv); err == nil && by != pv {
		p.moved, pv = true, by
	}
	switch s := pv.Spec.PersistentVolumeSource; {
	case s.CSI != nil:
		p.name = "kubernetes.io/csi:" + s.CSI.Driver
	case s.HostPath != nil:
		p.name = "kubernetes.io/host-path"
	case s.Local != nil:
		p.name = "kubernetes.io/local-volume"
	case s.NFS != nil:
		p.name = "kubernetes.io/nfs"
	case s.ISCSI != nil:
		p.name = iscsiPlugin
	}
	return p
}
