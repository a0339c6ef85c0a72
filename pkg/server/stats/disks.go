package stats

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
)

// disks are the file systems that pods' files are on; nil: not known.
type disks struct{ root, image, container *stats.FsStats }

// onDisk adds to what something occupies how large the file system is that it is on.
func onDisk(used, disk *stats.FsStats) *stats.FsStats {
	if used == nil || disk == nil {
		return used
	}
	used.AvailableBytes, used.CapacityBytes = disk.AvailableBytes, disk.CapacityBytes
	used.Inodes, used.InodesFree = disk.Inodes, disk.InodesFree
	return used
}

func spaceStats(s diskusage.Space) stats.FsStats {
	return stats.FsStats{
		Time: metav1.NewTime(s.At), AvailableBytes: s.Available, CapacityBytes: s.Capacity, UsedBytes: s.Used,
		Inodes: s.Inodes, InodesFree: s.InodesFree, InodesUsed: s.InodesUsed,
	}
}

// imageFileSystems returns those of images and of writable layers; nil if the runtime does not
// tell. They are one unless it says otherwise.
func (s *Source) imageFileSystems(ctx context.Context) (images, containers *stats.FsStats) {
	info := s.images.get(ctx)
	of := func(list []*cri.FilesystemUsage) *stats.FsStats {
		if len(list) == 0 {
			return nil
		}
		f := layer(list[0])
		return onDisk(f, fileSystem(list[0].GetFsId().GetMountpoint(), f.Time.Time))
	}
	images, containers = of(info.GetImageFilesystems()), of(info.GetContainerFilesystems())
	if containers == nil {
		containers = images
	}
	return images, containers
}

// every is how often at most logs and hosts files are measured.
const every = 10 * time.Second

// logs returns what the logs of a container occupy, those of earlier runs included.
func (s *Source) logs(pod *v1.Pod, container string, root *stats.FsStats) *stats.FsStats {
	dir := filepath.Join(s.cfg.LogDir(pod), container)
	return s.files(place{pod.UID, logPlace, container}, func() (string, error) { return dir, nil }, root)
}

// files returns what files of the node's own file system occupy, nil if that is not known yet.
func (s *Source) files(p place, path func() (string, error), root *stats.FsStats) *stats.FsStats {
	space, ok := s.meter.of(p, every, func(ctx context.Context) (diskusage.Space, error) {
		path, err := path()
		if err != nil {
			return diskusage.Space{}, err
		}
		at := time.Now()
		used, err := diskusage.Of(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return diskusage.Space{At: at, Used: &used.Bytes, InodesUsed: &used.Inodes}, err
	})
	if !ok {
		return nil
	}
	out := spaceStats(space)
	return onDisk(&out, root)
}

// volumes returns what is known of the pod's volumes. What is not known of one is 0, as in the
// kubelet.
func (s *Source) volumes(pod *v1.Pod) []stats.VolumeStats {
	return s.volumesThat(pod, func(v *v1.Volume) bool {
		return v.HostPath == nil && v.Image == nil // the kubelet does not measure these either
	})
}

// claims returns what is known of the pod's volumes that are claims.
func (s *Source) claims(pod *v1.Pod) []stats.VolumeStats {
	return s.volumesThat(pod, func(v *v1.Volume) bool { return claim(pod, v) != nil })
}

func (s *Source) volumesThat(pod *v1.Pod, wanted func(*v1.Volume) bool) []stats.VolumeStats {
	if s.cfg.VolumePeriod < 0 {
		return nil
	}
	var all []stats.VolumeStats
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !wanted(v) {
			continue
		}
		space, ok := s.meter.of(place{pod.UID, volumePlace, v.Name}, s.cfg.VolumePeriod, func(ctx context.Context) (diskusage.Space, error) {
			return s.cfg.Volumes.Space(ctx, pod, v.Name)
		})
		if !ok {
			continue
		}
		f := spaceStats(space)
		for _, n := range []**uint64{&f.AvailableBytes, &f.CapacityBytes, &f.UsedBytes, &f.Inodes, &f.InodesFree, &f.InodesUsed} {
			if *n == nil {
				*n = ptr.To[uint64](0)
			}
		}
		all = append(all, stats.VolumeStats{Name: v.Name, FsStats: f, PVCRef: claim(pod, v)})
	}
	return all
}

// claim names the claim that a volume is of; nil: of none.
func claim(pod *v1.Pod, v *v1.Volume) *stats.PVCReference {
	switch {
	case v.PersistentVolumeClaim != nil:
		return &stats.PVCReference{Name: v.PersistentVolumeClaim.ClaimName, Namespace: pod.Namespace}
	case v.Ephemeral != nil:
		return &stats.PVCReference{Name: pod.Name + "-" + v.Name, Namespace: pod.Namespace}
	}
	return nil
}

// local reports whether a volume is the pod's own local storage, by the kubelet's rule.
func local(v *v1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumDefault || v.ConfigMap != nil
}

// ephemeral adds up what a pod occupies of the node's own file systems: its writable layers,
// its logs, its volumes that live as long as it does, and its hosts file.
func (s *Source) ephemeral(pod *v1.Pod, p stats.PodStats, d *disks) *stats.FsStats {
	if d.root == nil {
		return nil
	}
	out := &stats.FsStats{Time: d.root.Time}
	out = onDisk(out, d.root)
	add := func(f *stats.FsStats) {
		if f == nil {
			return
		}
		if f.UsedBytes != nil {
			out.UsedBytes = ptr.To(ptr.Deref(out.UsedBytes, 0) + *f.UsedBytes)
		}
		if f.InodesUsed != nil {
			out.InodesUsed = ptr.To(ptr.Deref(out.InodesUsed, 0) + *f.InodesUsed)
		}
		if f.Time.After(out.Time.Time) {
			out.Time = f.Time
		}
	}
	for _, c := range p.Containers {
		add(c.Rootfs)
		add(c.Logs)
	}
	for _, used := range p.VolumeStats {
		for i := range pod.Spec.Volumes {
			if v := &pod.Spec.Volumes[i]; v.Name == used.Name && local(v) {
				add(&used.FsStats)
			}
		}
	}
	add(s.files(place{pod: pod.UID, kind: hostsPlace}, func() (string, error) { return s.cfg.Volumes.HostsPath(pod.UID) }, d.root))
	return out
}
