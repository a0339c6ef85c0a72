package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// emptyDir is a directory that belongs to the pod: on the node's disk, in memory
// (tmpfs) or in huge pages (hugetlbfs). The kernel enforces the sizeLimit of a
// tmpfs; a pod that exceeds another one is evicted (package eviction/localstorage).
type emptyDir struct {
	pod         *v1.Pod
	source      *v1.EmptyDirVolumeSource
	dir         string
	allocatable func() v1.ResourceList
}

func (e *emptyDir) path() Path { return Path{Host: e.dir, Relabel: true} }

func (e *emptyDir) setUp(context.Context) error {
	mode, gid := os.FileMode(0o777), -1
	if g := fsGroup(e.pod); g != nil {
		mode, gid = mode|os.ModeSetgid, int(*g)
	}
	if e.source.Medium == v1.StorageMediumMemory {
		mode |= os.ModeSticky // the kernel's own mode of a tmpfs, which the kubelet leaves
	}
	return e.make(mode, gid)
}

// MountPoints makes, as a container is about to be created, what the runtime cannot: where
// the container mounts another volume as a whole, which is a directory, below an emptyDir
// that it has read-only. Not before: containers that ran earlier may have wanted the volume
// empty, as git does. What exists is left as it is; what is made has the volume's own group
// and mode, as subPaths have. Where the container mounts a subPath or a path of the host, it
// may need a file, which is left to the containers. They can put anything anywhere at any
// time: nothing that leads out of the volume is followed, and what cannot be made is left to
// the runtime, whose error says more. The error is ctx's.
func (m *Manager) MountPoints(ctx context.Context, pod *v1.Pod, c *v1.Container) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errors.New("timed out waiting for the condition"))
	defer cancel()
	readOnly, host := map[string]bool{}, map[string]bool{}
	for _, mount := range c.VolumeMounts {
		readOnly[mount.Name] = readOnly[mount.Name] || mount.ReadOnly
	}
	for _, v := range pod.Spec.Volumes {
		host[v.Name] = v.HostPath != nil
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir == nil || !readOnly[v.Name] {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		below := readOnlyMountPoints(c, v.Name, host)
		if len(below) == 0 {
			continue
		}
		at, err := m.Path(pod, v.Name)
		if err != nil {
			return err
		}
		err = m.serial.do(ctx, pod.UID, func(w *work) error {
			w.at(fmt.Sprintf("making mount points in volume %q", v.Name))
			return makeEach(ctx, at.Host, below)
		})
		if ctx.Err() != nil && err != nil {
			return fmt.Errorf("make mount points in volume %q: %w", v.Name, err)
		}
		if err != nil {
			klog.V(2).InfoS("Could not make a mount point in a volume", "pod", klog.KObj(pod), "podUID", pod.UID, "containerName", c.Name, "volume", v.Name, "err", err)
		}
	}
	return nil
}

// readOnlyMountPoints are the paths within the volume at which a container that has it
// read-only mounts other volumes as a whole; those of host are paths of the host.
func readOnlyMountPoints(c *v1.Container, name string, host map[string]bool) []string {
	var mounts []v1.VolumeMount
	found := false
	for _, m := range c.VolumeMounts {
		switch {
		case m.Name == name && m.ReadOnly:
			found = true
			mounts = append(mounts, m)
		case m.Name != name && m.SubPath == "" && m.SubPathExpr == "" && !host[m.Name]:
			mounts = append(mounts, m)
		}
	}
	if !found {
		return nil
	}
	return mountPointsBelow(&v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{VolumeMounts: mounts}}}}, name)
}

// makeEach makes the directories in a volume that are missing, as many as it can.
func makeEach(ctx context.Context, dir string, below []string) error {
	var failed error
	for _, p := range below {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := bounds.NewPath(p)
		if err == nil {
			var fd int
			if fd, err = openBeneath(dir, p); err == nil {
				unix.Close(fd)
			}
		}
		if failed == nil {
			failed = err
		}
	}
	return failed
}

func (e *emptyDir) make(mode os.FileMode, gid int) error {
	switch medium := e.source.Medium; {
	case medium == v1.StorageMediumDefault:
		return makeDir(e.dir, mode, gid)
	case medium == v1.StorageMediumMemory:
		return mountAt(e.dir, filesystem{kind: "tmpfs", options: tmpfsOptions(e.memorySize(), mode, gid)})
	case strings.HasPrefix(string(medium), string(v1.StorageMediumHugePages)):
		size, err := e.pageSize()
		if err != nil {
			return err
		}
		o := []string{"pagesize=" + strconv.FormatInt(size, 10), "mode=" + octal(mode)}
		if gid >= 0 {
			o = append(o, "gid="+strconv.Itoa(gid))
		}
		return mountAt(e.dir, filesystem{kind: "hugetlbfs", options: o})
	default:
		return fmt.Errorf("unknown storage medium %q", medium)
	}
}

// memorySize bounds a tmpfs by the smallest of sizeLimit, the pod's memory limit
// and what the node can give to pods; 0 leaves it to the kernel.
func (e *emptyDir) memorySize() int64 {
	alloc := e.allocatable()
	size := alloc.Memory().Value()
	lower := func(q *apiresource.Quantity) {
		if n := q.Value(); n > 0 && (size == 0 || n < size) {
			size = n
		}
	}
	if everyContainerLimitsMemory(e.pod) {
		limits := resource.PodLimits(e.pod, resource.PodResourcesOptions{})
		lower(limits.Memory())
	}
	if e.source.SizeLimit != nil {
		lower(e.source.SizeLimit)
	}
	return size
}

// everyContainerLimitsMemory reports whether the sum of the containers' limits
// bounds the pod.
func everyContainerLimitsMemory(pod *v1.Pod) bool {
	if r := pod.Spec.Resources; r != nil && !r.Limits.Memory().IsZero() {
		return true
	}
	for _, c := range pods.Containers(pod) {
		if c.Resources.Limits.Memory().IsZero() {
			return false
		}
	}
	return true
}

// pageSize returns the size in bytes of the huge pages to use: the size that the
// medium names, or else the only one that the pod requests. A pod cannot use pages
// that it does not request: the volume would take them from others (the kubelet's
// words).
func (e *emptyDir) pageSize() (int64, error) {
	sizes := map[int64]bool{}
	for name := range resource.PodRequests(e.pod, resource.PodResourcesOptions{}) {
		if size, ok := pods.HugePageSize(name); ok {
			sizes[size] = true
		}
	}
	if text, ok := strings.CutPrefix(string(e.source.Medium), string(v1.StorageMediumHugePagesPrefix)); ok {
		q, err := bounds.ParseQuantity(text)
		if err != nil {
			return 0, fmt.Errorf("medium %q: %w", e.source.Medium, err)
		}
		if sizes[q.Value()] {
			return q.Value(), nil
		}
		sizes = nil
	}
	if len(sizes) > 1 {
		return 0, fmt.Errorf("medium: %s can't be used if container requests multiple huge page sizes", e.source.Medium)
	}
	for s := range sizes {
		return s, nil
	}
	return 0, fmt.Errorf("medium %s: hugePages storage requested, but there is no resource request for huge pages", e.source.Medium)
}

func fsGroup(pod *v1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// makeDir makes dir with exactly that mode and group (gid -1: root's), atomically:
// it is made under another name and renamed. So a directory that exists is right,
// and what containers have changed in it since is kept.
func makeDir(dir string, mode os.FileMode, gid int) error {
	if fi, err := os.Lstat(dir); err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("%s is in the way: not a directory", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // fails once renamed
	if gid >= 0 {
		if err := os.Chown(tmp, -1, gid); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, mode); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}
