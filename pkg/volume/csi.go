package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// CSI mounts volumes with their drivers: *csi.Manager.
type CSI interface {
	SetUp(ctx context.Context, v csi.Volume) error
	// Target is where a volume is once it is set up.
	Target(v csi.Volume) string
	// Expand grows a volume that the pod has; its errors may be one of csi.Err*.
	Expand(ctx context.Context, v csi.Volume, bytes int64) error
	// Known reports whether a driver of that name has registered.
	Known(driver string) bool
	// TearDown takes down what is published in a directory of a pod.
	TearDown(ctx context.Context, dir string) error
	// Clean gives back what no pod uses any more.
	Clean(ctx context.Context) error
}

var errNoCSI = errors.New("this node has no CSI drivers: it is standalone")

const csiPlugin = "kubernetes.io/csi"

// csiVolume is a volume of a CSI driver.
type csiVolume struct {
	m *Manager
	v csi.Volume
}

// csiVolume returns a CSI volume: an inline one, or a persistent one.
func (m *Manager) csiVolume(v csi.Volume) (kind, error) {
	if m.csi == nil {
		return nil, errNoCSI
	}
	var err error
	if v.Dir, err = m.layout.volume(v.Pod.UID, csiPlugin, v.Name); err != nil {
		return nil, err
	}
	v.SetGroup = func(ctx context.Context, dir string) error { return m.setOwnershipOf(ctx, dir, v.Pod) }
	return &csiVolume{m, v}, nil
}

func (c *csiVolume) path() Path {
	return Path{Host: c.m.csi.Target(c.v), ReadOnly: c.v.ReadOnly, Relabel: !c.v.ReadOnly && !c.v.Block, Block: c.v.Block}
}

func (c *csiVolume) setUp(ctx context.Context) error {
	err := c.m.csi.SetUp(ctx, c.v)
	var kept *csi.RepublishError
	if errors.As(err, &kept) {
		c.m.warn(c.v.Pod, "FailedMount", fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v; it stays as it was", c.v.Name, err))
		return nil
	}
	return err
}

// grow implements growable.
func (c *csiVolume) grow(ctx context.Context, bytes int64) error {
	return c.m.csi.Expand(ctx, c.v, bytes)
}

// tearDownCSI takes down the CSI volumes of a pod, which only their drivers can do.
func (m *Manager) tearDownCSI(ctx context.Context, podDir string, at func(string)) error {
	if m.csi == nil {
		return nil
	}
	dir := filepath.Join(podDir, volumesDir, escape(csiPlugin))
	// A pod that has such volumes has this directory; anything else in the place of one of
	// these is only removed.
	if fi, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && !fi.IsDir() {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	// Mounts on top of a volume go first.
	if err := unmountBelow(filepath.Join(podDir, subPathsDir), at); err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		at("UnmountVolume.TearDown for volume " + e.Name())
		failed = append(failed, m.csi.TearDown(ctx, filepath.Join(dir, e.Name())))
	}
	return errors.Join(failed...)
}

// inlineCSI is a CSI volume that the pod's spec defines itself.
func (m *Manager) inlineCSI(pod *v1.Pod, name string, s *v1.CSIVolumeSource) (kind, error) {
	return m.csiVolume(csi.Volume{Pod: pod, Name: name, Inline: s, ReadOnly: ptr.Deref(s.ReadOnly, false)})
}
