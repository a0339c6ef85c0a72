package localstorage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// Runtime returns what writable layers occupy.
type Runtime interface {
	ListContainerStats(context.Context, *cri.ListContainerStatsRequest, ...grpc.CallOption) (*cri.ListContainerStatsResponse, error)
}

// Volumes returns where a pod's files are.
type Volumes interface {
	Path(pod *v1.Pod, volume string) (volume.Path, error)
	HostsPath(types.UID) (string, error)
}

// measure finds out what a pod occupies, as far as its limits need it. A failure
// stops nothing else from being measured: one volume must not shield another.
func (m *Manager) measure(ctx context.Context, pod *v1.Pod, l limits) (use, error) {
	u := use{emptyDirs: map[string]uint64{}, tooDeep: map[string]bool{}, containers: map[string]uint64{}}
	var errs []error
	for _, v := range pod.Spec.Volumes {
		_, limited := l.emptyDirs[v.Name]
		counts := l.pod != nil && ephemeral(v)
		if !limited && !counts {
			continue
		}
		path, err := m.cfg.Volumes.Path(pod, v.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		n, err := occupied(ctx, path.Host)
		if errors.Is(err, tree.ErrTooDeep) {
			u.tooDeep[v.Name] = true
		} else if err != nil {
			errs = append(errs, err)
		}
		if limited {
			u.emptyDirs[v.Name] = n
		}
		if counts {
			u.total += n
		}
	}
	if !l.ofContainers() {
		return u, errors.Join(errs...)
	}
	errs = append(errs, m.measureContainers(ctx, pod, &u))
	hosts, err := m.cfg.Volumes.HostsPath(pod.UID)
	if err == nil {
		var n uint64
		n, err = occupied(ctx, hosts)
		u.total += n
	}
	return u, errors.Join(append(errs, err)...)
}

// measureContainers adds the writable layers and the logs of the running
// containers; the logs include those of earlier runs.
func (m *Manager) measureContainers(ctx context.Context, pod *v1.Pod, u *use) error {
	list, err := m.cfg.Runtime.ListContainerStats(ctx, &cri.ListContainerStatsRequest{Filter: &cri.ContainerStatsFilter{
		LabelSelector: map[string]string{pods.LabelPodUID: string(pod.UID)},
	}})
	if err != nil {
		return fmt.Errorf("ask the runtime what containers occupy: %w", err)
	}
	var errs []error
	for name, layer := range layers(list.Stats) {
		logs, err := occupied(ctx, filepath.Join(m.cfg.LogDir(pod), name))
		errs = append(errs, err)
		u.total += logs + layer
		if m.cfg.ImagesElsewhere() {
			layer = 0
		}
		u.containers[name] = logs + layer
	}
	return errors.Join(errs...)
}

// layers returns, by container, the bytes in the writable layer of its newest run.
func layers(all []*cri.ContainerStats) map[string]uint64 {
	bytes, newest := map[string]uint64{}, map[string]uint32{}
	for _, c := range all {
		id := c.GetAttributes().GetMetadata()
		if _, known := bytes[id.GetName()]; !known || id.GetAttempt() > newest[id.GetName()] {
			bytes[id.GetName()], newest[id.GetName()] = c.GetWritableLayer().GetUsedBytes().GetValue(), id.GetAttempt()
		}
	}
	return bytes
}

// ephemeral reports whether a volume counts as the pod's own local storage, by the
// kubelet's rule.
func ephemeral(v v1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumDefault || v.ConfigMap != nil
}

// occupied returns the bytes that path occupies: 0 if it does not exist, an incomplete
// count with an error.
func occupied(ctx context.Context, path string) (uint64, error) {
	u, err := diskusage.Of(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return u.Bytes, err
}
