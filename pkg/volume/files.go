package volume

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// writtenFiles is a volume of files that the node writes and keeps up to date:
// configMap, secret, downwardAPI, projected. They are in an emptyDir, in memory
// except for configMap, as with the kubelet.
type writtenFiles struct {
	emptyDir
	m       *Manager
	name    string
	from    *content
	content func(context.Context, *content) (map[string]file, error)
}

// stamp is what a volume was last written with: which files, and where.
type stamp struct {
	sum  [sha256.Size]byte
	name string
}

func (w *writtenFiles) path() Path { return Path{Host: w.dir, ReadOnly: true, Relabel: true} }

// setUp costs only a few looks if nothing has changed since the last call. A volume
// that was written before, and whose content is not available now, keeps the old
// content: its pod runs, and containers that restart can use it.
func (w *writtenFiles) setUp(ctx context.Context) error {
	files, err := w.content(ctx, w.from)
	if err != nil {
		if !w.written() {
			return err
		}
		w.m.warn(w.pod, "FailedMount", fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v; it keeps the content it has", w.name, err))
		return nil
	}
	gid := -1
	if g := fsGroup(w.pod); g != nil {
		gid = int(*g)
		for p, f := range files {
			f.mode |= 0o440
			files[p] = f
		}
	}
	if err := w.emptyDir.setUp(ctx); err != nil {
		return err
	}
	sum := digest(files, gid)
	last, ok := w.m.stampOf(w.pod.UID, w.name)
	if current, err := os.Readlink(filepath.Join(w.dir, dataLink)); err == nil && ok && last == (stamp{sum, current}) {
		return nil
	}
	if err := makeMountPoints(ctx, w.dir, w.pod, w.name, files); err != nil {
		return err
	}
	current, err := writeFiles(ctx, w.dir, files, gid)
	if err != nil {
		return err
	}
	w.m.setStamp(w.pod.UID, w.name, stamp{sum, current})
	return nil
}

func (w *writtenFiles) written() bool {
	_, err := os.Readlink(filepath.Join(w.dir, dataLink))
	return err == nil
}

// digest identifies the content of the files.
func digest(files map[string]file, gid int) (sum [sha256.Size]byte) {
	h := sha256.New()
	number := func(n int) { h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	number(gid)
	for _, p := range slices.Sorted(maps.Keys(files)) {
		f := files[p]
		number(len(p))
		h.Write([]byte(p))
		number(int(f.mode))
		number(f.uid)
		number(len(f.data))
		h.Write(f.data)
	}
	h.Sum(sum[:0])
	return sum
}

func (m *Manager) stampOf(uid types.UID, name string) (stamp, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.stamps[uid][name]
	return s, ok
}

func (m *Manager) setStamp(uid types.UID, name string, s stamp) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stamps[uid] == nil {
		m.stamps[uid] = map[string]stamp{}
	}
	m.stamps[uid][name] = s
}

// makeMountPoints makes the directories in a volume at which other volumes are
// mounted. The runtime cannot make them, because containers have this volume
// read-only. One of the volume's own files is a mount point as it is: if the containers that
// have the volume all mount something there, it is an empty file, on which the mount stays
// whatever is written to the volume later, else the link to the file's present content.
func makeMountPoints(ctx context.Context, dir string, pod *v1.Pod, name string, files map[string]file) error {
	below := mountPointsBelow(pod, name)
	if len(below) == 0 {
		return nil
	}
	for _, p := range below {
		if err := bounds.NewPath(p); err != nil {
			return fmt.Errorf("make mount point %w", err)
		}
		if strings.HasPrefix(p, "..") { // a directory of files, or the link to one
			return fmt.Errorf("make mount point %q: names that begin with '..' are the volume's own", bounds.Quote(p))
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range below {
		if ctx.Err() != nil {
			return fmt.Errorf("make mount points: %w", context.Cause(ctx))
		}
		if _, own := files[p]; own {
			if strings.Contains(p, "/") || !hiddenFromAll(pod, name, p) {
				continue
			}
			err := touch(root, p)
			if err != nil {
				return fmt.Errorf("make mount point %q: %w", bounds.Quote(p), err)
			}
			continue
		}
		if err := root.MkdirAll(p, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			if at, ok := errors.AsType[*fs.PathError](err); ok {
				err = at.Err // without the path, which may be long
			}
			return fmt.Errorf("make mount point %q: %w", bounds.Quote(p), err)
		}
	}
	return nil
}

// touch makes an empty file if nothing of that name is there.
func touch(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// hiddenFromAll reports whether every mount of the volume has something else mounted at p.
func hiddenFromAll(pod *v1.Pod, name, p string) bool {
	for _, c := range pods.AllContainers(pod) {
		there := map[string]bool{}
		for _, m := range c.VolumeMounts {
			there[path.Clean("/"+m.MountPath)] = true
		}
		for _, m := range c.VolumeMounts {
			if m.Name == name && !there[path.Join("/", m.MountPath, p)] {
				return false
			}
		}
	}
	return true
}

// mountPointsBelow returns the paths within the volume at which a container that
// mounts it mounts something else; of two nested paths only the upper.
func mountPointsBelow(pod *v1.Pod, name string) []string {
	var all []string
	see := func(mounts []v1.VolumeMount) {
		// In this order everything below a path follows it: a spec may have tens of
		// thousands of mounts, too many to compare each with each.
		at := make([]string, len(mounts))
		for i := range mounts {
			at[i] = strings.TrimSuffix(path.Clean("/"+mounts[i].MountPath), "/") + "/"
		}
		ordered := slices.Sorted(slices.Values(at))
		for i := range mounts {
			if mounts[i].Name != name || mounts[i].SubPath != "" || mounts[i].SubPathExpr != "" {
				continue // a subPath shows another directory, which may not be there yet
			}
			upper := at[i]
			first, _ := slices.BinarySearch(ordered, upper)
			for _, p := range ordered[first:] {
				below, ok := strings.CutPrefix(p, at[i])
				if !ok {
					break
				}
				if below != "" && (upper == at[i] || !strings.HasPrefix(p, upper)) {
					upper = p
					all = append(all, strings.TrimSuffix(below, "/"))
				}
			}
		}
	}
	for _, c := range pods.AllContainers(pod) {
		see(c.VolumeMounts)
	}
	return all
}
