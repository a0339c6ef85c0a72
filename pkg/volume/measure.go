package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/sys/mountinfo"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// ErrNotMeasured is why nothing is known of what a volume occupies: it is of a kind of which
// the kubelet tells nothing either (hostPath, image, a driver that cannot), or is not set up.
var ErrNotMeasured = errors.New("what the volume occupies is not measured")

// measured is a CSI that knows what its volumes occupy.
type measured interface {
	Space(ctx context.Context, v csi.Volume) (diskusage.Space, error)
}

// How a volume is measured, as the kubelet calls it.
const measuredFiles, measuredWhole = "du", "statfs"

// Space returns what the named volume of a pod occupies, measured as the kubelet does for its
// kind: its files, its file system, or what its driver says. It may take minutes. ErrNotMeasured
// is no failure.
func (m *Manager) Space(ctx context.Context, pod *v1.Pod, name string) (diskusage.Space, error) {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == name {
			k, err := m.kind(pod, v)
			if err != nil {
				return diskusage.Space{}, err
			}
			began := time.Now()
			s, by, err := m.space(ctx, pod, v, k)
			if err == nil {
				m.metrics.measured.WithLabelValues(by).Observe(time.Since(began).Seconds())
			}
			return s, err
		}
	}
	return diskusage.Space{}, fmt.Errorf("pod has no volume %q", name)
}

// space also returns by what was measured: the driver's name, if it was asked.
func (m *Manager) space(ctx context.Context, pod *v1.Pod, v *v1.Volume, k kind) (s diskusage.Space, by string, err error) {
	switch k := k.(type) {
	case *claimed:
		pv := m.boundTo(pod.UID, v.Name)
		if pv == nil {
			return s, "", ErrNotMeasured
		}
		of, err := m.persistent(pod, v, pv)
		if err != nil {
			return s, "", err
		}
		return m.space(ctx, pod, v, of)
	case *emptyDir, *writtenFiles:
		s, err = m.fileSystems.Files(ctx, k.path().Host)
		return s, measuredFiles, err
	case *local, *nfs, *iscsi:
		// Without its mount the directory says how full the node is.
		dir := k.path().Host
		if ok, err := mountinfo.Mounted(dir); err != nil || !ok {
			return s, "", ErrNotMeasured
		}
		s, err = m.fileSystems.Whole(ctx, dir)
		return s, measuredWhole, err
	case *csiVolume:
		if of, ok := m.csi.(measured); ok {
			s, err = of.Space(ctx, k.v)
			if errors.Is(err, csi.ErrNotMeasured) {
				err = ErrNotMeasured
			}
			return s, k.v.Driver(), err
		}
	}
	return s, "", ErrNotMeasured
}
