package csi

import (
	"context"
	"errors"
	"fmt"
	"os"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	storage "k8s.io/api/storage/v1"
	"k8s.io/klog/v2"
)

// TearDown unpublishes the volume in that directory of a pod, and unstages it if no
// other pod has it. A directory without a volume is fine.
func (m *Manager) TearDown(ctx context.Context, dir string) error {
	d, err := load(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	drv, err := m.driver(d.Driver)
	if err != nil {
		return fmt.Errorf("UnmountVolume.TearDown failed: %w", err)
	}
	unlock, err := m.locks.Lock(ctx, d.key())
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("no answer of driver %s within %v", d.Driver, callTimeout))
	defer cancel()
	target := d.target(dir)
	if _, err := drv.NodeUnpublishVolume(ctx, &csipb.NodeUnpublishVolumeRequest{VolumeId: d.Handle, TargetPath: target}); err != nil {
		return fmt.Errorf("UnmountVolume.TearDown failed: %w", err)
	}
	if err := removeIfUnmounted(target); err != nil {
		return err
	}
	klog.V(2).InfoS("Unpublished volume", "driver", d.Driver, "volume", d.Handle, "path", target)
	staged, staging := m.stagedDir(d, d.Target != "")
	_, unread := load(staged)
	if unread != nil && lost(staged) { // after load, which moves aside
		// The pod's record, while it is there, says as much as the one that was damaged.
		record := d
		record.Name, record.Target, record.Staging, record.Ready = "", "", staging, false
		if unread = record.save(staged); unread != nil {
			return fmt.Errorf("record anew that volume %s is staged: %w", d.Handle, unread)
		}
	}
	if err := forget(dir); err != nil {
		return err
	}
	if d.Mode == storage.VolumeLifecycleEphemeral || m.isPublished(d) {
		return nil
	}
	if unread != nil && !absent(unread) {
		klog.ErrorS(unread, "Nobody can tell yet whether a volume is staged, trying again later", "driver", d.Driver, "volume", d.Handle)
		return nil
	}
	// Clean tries again what fails from here on: the pod has nothing more to wait for.
	for staged, s := range m.staged() {
		if s.key() == d.key() {
			if err := m.unstage(ctx, drv, staged, s); err != nil {
				klog.ErrorS(err, "Could not unstage a volume, trying again later", "driver", d.Driver, "volume", d.Handle)
				return nil
			}
		}
	}
	m.cfg.Release(d.uniqueName())
	return nil
}

// isPublished reports whether a pod of this node has the volume, or may have it: while a
// record of a volume of one of our pods is lost or cannot be read, it may be any.
func (m *Manager) isPublished(d data) bool {
	all, doubt := m.published()
	if doubt {
		return true
	}
	for _, other := range all {
		if other.key() == d.key() {
			return true
		}
	}
	return false
}

// Clean unstages volumes that no pod has any more, as left by a crash or by a driver
// that was away. A volume that is being worked on is left for the next time.
func (m *Manager) Clean(ctx context.Context) error {
	var failed []error
	for dir, d := range m.staged() {
		if unlock, free := m.locks.TryLock(d.key()); free {
			failed = append(failed, m.clean(ctx, dir, d))
			unlock()
		}
	}
	return errors.Join(failed...)
}

func (m *Manager) clean(ctx context.Context, dir string, d data) error {
	if m.isPublished(d) {
		return nil
	}
	drv, err := m.driver(d.Driver)
	if err != nil {
		return nil // nobody to ask: done once the driver is back
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("no answer of driver %s within %v", d.Driver, callTimeout))
	defer cancel()
	if err := m.unstage(ctx, drv, dir, d); err != nil {
		return err
	}
	m.cfg.Release(d.uniqueName())
	return nil
}

// unstage is called with the volume locked.
func (m *Manager) unstage(ctx context.Context, drv *driver, dir string, d data) error {
	if d.Staging == "" {
		_, d.Staging = m.stagedDir(d, false) // a file of the kubelet's does not name it
	}
	if _, err := drv.NodeUnstageVolume(ctx, &csipb.NodeUnstageVolumeRequest{VolumeId: d.Handle, StagingTargetPath: d.Staging}); err != nil {
		return fmt.Errorf("UnmountDevice failed for volume %s: %w", d.Handle, err)
	}
	if err := removeIfUnmounted(d.Staging); err != nil {
		return err
	}
	klog.V(2).InfoS("Unstaged volume", "driver", d.Driver, "volume", d.Handle)
	return forget(dir)
}
