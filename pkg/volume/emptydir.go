package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	name        string // of the volume; "": its content is not the containers'
	source      *v1.EmptyDirVolumeSource
	dir         string
	allocatable func() v1.ResourceList
}

func (e *emptyDir) path() Path { return Path{Host: e.dir, Relabel: true} }

func (e *emptyDir) setUp(ctx context.Context) error {
	mode, gid := os.FileMode(0o777), -1
	if g := fsGroup(e.pod); g != nil {
		mode, gid = mode|os.ModeSetgid, int(*g)
	}
	if e.source.Medium == v1.StorageMediumMemory {
		mode |= os.ModeSticky // the kernel's own mode of a tmpfs, which the kubelet leaves
	}
	if err := e.make(mode, gid); err != nil {
		return err
	}
	return e.makeMountPoints(ctx)
}

// makeMountPoints makes what the runtime cannot: where a container that has the volume
// read-only mounts another volume as a whole, which is a directory. Where it
// mounts a subPath or a path of the host, it may need a file, which a container may yet put there.
// Containers can put anything anywhere at any time: nothing that leads out of the volume is
// followed, and what is no directory is left to the runtime, whose error says more.
func (e *emptyDir) makeMountPoints(ctx context.Context) error {
	if e.name == "" {
		return nil
	}
	host := map[string]bool{}
	for _, v := range e.pod.Spec.Volumes {
		host[v.Name] = v.HostPath != nil
	}
	wanted := &v1.Pod{}
	for _, c := range pods.AllContainers(e.pod) {
		var mounts []v1.VolumeMount
		found := false
		for _, m := range c.VolumeMounts {
			switch {
			case m.Name == e.name && m.ReadOnly:
				found = true
				mounts = append(mounts, m)
			case m.Name != e.name && m.SubPath == "" && m.SubPathExpr == "" && !host[m.Name]:
				mounts = append(mounts, m)
			}
		}
		if found {
			wanted.Spec.Containers = append(wanted.Spec.Containers, v1.Container{VolumeMounts: mounts})
		}
	}
	err := makeMountPoints(ctx, e.dir, wanted, e.name, nil)
	if err != nil && ctx.Err() == nil {
		klog.V(2).InfoS("Could not make a mount point in a volume", "pod", klog.KObj(e.pod), "podUID", e.pod.UID, "volume", e.name, "err", err)
		return nil
	}
	return err
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
