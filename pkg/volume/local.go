package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	mount "k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// local is a persistent volume on this node: a directory, which is bind-mounted, or
// a disk, whose file system is mounted once for all its pods at
// plugins/kubernetes.io/local-volume/mounts/<volume>.
type local struct {
	m        *Manager
	pod      *v1.Pod
	pv       *v1.PersistentVolume
	dir      string
	readOnly bool
}

func (l *local) path() Path { return Path{Host: l.dir, ReadOnly: l.readOnly, Relabel: !l.readOnly} }

func (l *local) setUp(ctx context.Context) error {
	source := l.pv.Spec.Local.Path
	if err := bounds.Path(source); err != nil {
		return fmt.Errorf("path %w", err)
	}
	if !filepath.IsAbs(source) || slices.Contains(strings.Split(source, "/"), "..") {
		return fmt.Errorf("invalid path: %s is not absolute or contains '..'", source)
	}
	root, err := openPlace(source)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("path %q does not exist", source)
	}
	if err != nil {
		return err
	}
	defer func() { root.Close() }()
	fi, err := root.Stat()
	if err != nil {
		return err
	}
	global := filepath.Join(l.m.layout.plugin(localPlugin), "mounts", l.pv.Name)
	unlock, err := l.m.devices.Lock(ctx, global)
	if err != nil {
		return err
	}
	defer unlock()
	if isBlock(fi.Mode()) {
		fsType := ""
		if t := l.pv.Spec.Local.FSType; t != nil {
			fsType = *t
		}
		if err := l.m.mountDisk(source, global, fsType, l.readOnly, l.pv.Spec.MountOptions); err != nil {
			return err
		}
		if err := root.Close(); err != nil {
			return err
		}
		source = global
		if root, err = openPlace(source); err != nil {
			return err
		}
	} else if !fi.IsDir() {
		return fmt.Errorf("only directory and block device are supported: %s is neither", source)
	}
	mounted, err := isMounted(l.dir)
	if mounted || err != nil {
		return err
	}
	shared, err := l.shared()
	if err != nil {
		return err
	}
	if shared {
		l.tellGroup(root)
	} else if !l.readOnly {
		// Before the pod's mount exists, since that says that everything is done.
		if err := l.m.setOwnership(ctx, root, l.pod); err != nil {
			return err
		}
	}
	if err := l.m.bindDir(source, l.dir, l.readOnly, l.pv.Spec.MountOptions); err != nil {
		return err
	}
	// mount(8) takes only paths. A pod that has a directory above may have replaced this
	// one since it was opened.
	if err := checkSame(root, l.dir); err != nil {
		return l.m.undoMount(l.dir, fmt.Errorf("mount %s: %w", source, err))
	}
	return nil
}

// shared reports whether another pod has the volume: then its files keep the group that they were given first, as with
// the kubelet.
func (l *local) shared() (bool, error) {
	if fsGroup(l.pod) == nil {
		return false, nil
	}
	own := filepath.Join(volumesDir, escape(localPlugin), filepath.Base(l.dir))
	pods := filepath.Join(l.m.layout.root, "pods")
	mounts, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		pod, ok := strings.CutSuffix(i.Mountpoint, "/"+own)
		return !ok || filepath.Dir(pod) != pods || i.Mountpoint == l.dir, false
	})
	if err != nil {
		return false, fmt.Errorf("look which pods have the volume: %w", err)
	}
	return len(mounts) > 0, nil
}

// tellGroup tells a pod that the volume it shares belongs to another group than its own.
func (l *local) tellGroup(root *os.File) {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil || int64(st.Gid) == *fsGroup(l.pod) {
		return
	}
	l.m.warn(l.pod, "AlreadyMountedVolume", fmt.Sprintf(
		"The requested fsGroup is %d, but the volume %s has GID %d. The volume may not be shareable.", *fsGroup(l.pod), l.pv.Name, st.Gid))
}

// grow implements growable: as with the kubelet, the file system of a disk takes all of the disk,
// and a directory is as large as what it is on. The disk is the one that is mounted, whatever the
// path leads to by now.
func (l *local) grow(ctx context.Context, _ int64) error {
	global := filepath.Join(l.m.layout.plugin(localPlugin), "mounts", l.pv.Name)
	unlock, err := l.m.devices.Lock(ctx, global)
	if err != nil {
		return err
	}
	defer unlock()
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(global))
	if err != nil || len(mounts) == 0 {
		return err
	}
	_, err = mount.NewResizeFs(bounded{utilexec.New(), ctx}).Resize(mounts[0].Source, global)
	return err
}

// bounded runs programs until a context ends.
type bounded struct {
	utilexec.Interface
	ctx context.Context
}

// Command implements utilexec.Interface.
func (b bounded) Command(cmd string, args ...string) utilexec.Cmd {
	return b.CommandContext(b.ctx, cmd, args...)
}

// openPlace opens what a path leads to, without doing anything to it (O_PATH).
func openPlace(path string) (*os.File, error) { return os.OpenFile(path, unix.O_PATH, 0) }

// checkSame requires that path still leads to the open file.
func checkSame(open *os.File, path string) error {
	want, err := open.Stat()
	if err != nil {
		return err
	}
	have, err := os.Lstat(path)
	if err == nil && !os.SameFile(want, have) {
		err = errors.New("it was exchanged meanwhile")
	}
	return err
}

// device is a persistent volume that containers see as a block device.
type device struct {
	node     string
	readOnly bool
}

func (d *device) path() Path { return Path{Host: d.node, ReadOnly: d.readOnly, Block: true} }

func (d *device) setUp(context.Context) error {
	if err := bounds.Path(d.node); err != nil {
		return fmt.Errorf("path %w", err)
	}
	fi, err := os.Stat(d.node)
	if err != nil {
		return err
	}
	if !isBlock(fi.Mode()) {
		return fmt.Errorf("%s is not a block device", d.node)
	}
	return nil
}

// grow implements growable: a device has the size that it has.
func (d *device) grow(context.Context, int64) error { return nil }

func isBlock(m os.FileMode) bool { return m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0 }
