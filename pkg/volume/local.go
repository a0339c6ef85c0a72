package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// local is a persistent volume that lies on this node: a directory, which is
// bind-mounted, or a disk, whose file system is mounted once for all its pods at
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
	if !filepath.IsAbs(source) || slices.Contains(strings.Split(source, "/"), "..") {
		return fmt.Errorf("invalid path: %s is not absolute or contains '..'", source)
	}
	fi, err := os.Stat(source)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("path %q does not exist", source)
	}
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
		source = global
	} else if !fi.IsDir() {
		return fmt.Errorf("only directory and block device are supported: %s is neither", source)
	}
	mounted, err := isMounted(l.dir)
	if mounted || err != nil {
		return err
	}
	if !l.readOnly {
		// Before the pod's mount is there, which says that all is done.
		if err := setOwnership(ctx, source, l.pod); err != nil {
			return err
		}
	}
	return l.m.bindDir(source, l.dir, l.readOnly, l.pv.Spec.MountOptions)
}

// device is a persistent volume that containers have as a block device.
type device struct {
	node     string
	readOnly bool
}

func (d *device) path() Path { return Path{Host: d.node, ReadOnly: d.readOnly, Block: true} }

func (d *device) setUp(context.Context) error {
	fi, err := os.Stat(d.node)
	if err != nil {
		return err
	}
	if !isBlock(fi.Mode()) {
		return fmt.Errorf("%s is not a block device", d.node)
	}
	return nil
}

func isBlock(m os.FileMode) bool { return m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0 }
