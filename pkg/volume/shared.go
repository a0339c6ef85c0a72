package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

const localPlugin = "kubernetes.io/local-volume"

// writeRecord records beside a disk's mount point how it is attached, before it is.
func writeRecord(global string, d iscsiDisk) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return durable.Write(global+".json", b)
}

// readDisk reads what writeRecord has written. A pod that has the disk has a record that was
// lost written anew at its next look.
func readDisk(record string) (iscsiDisk, error) {
	var d iscsiDisk
	err := durable.Load(record, "How the iSCSI disk is attached that is mounted beside it. Unless a pod that has it goes on, unmount it and log out of its target by hand (iscsiadm -m session).",
		func(text []byte) error {
			if err := json.Unmarshal(text, &d); err != nil {
				return err
			}
			if d.IQN == "" || len(d.Portals) == 0 {
				return errors.New("it names no target")
			}
			return nil
		})
	return d, err
}

// releaseDisks unmounts the disks that no pod has any more, and logs out of their
// targets. A disk that is being worked on is left for the next time.
func (m *Manager) releaseDisks(ctx context.Context) error {
	locals, _ := filepath.Glob(filepath.Join(m.layout.plugin(localPlugin), "mounts", "*"))
	records, _ := filepath.Glob(filepath.Join(m.layout.plugin(iscsiPlugin), "iface-*", "*.json"))
	if len(locals)+len(records) == 0 {
		return nil // common case: nothing to look at
	}
	var failed []error
	for _, global := range locals {
		if unlock, free := m.devices.TryLock(global); free {
			failed = append(failed, m.releaseDisk(global))
			unlock()
		}
	}
	for _, record := range records {
		d, err := readDisk(record)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("read %s: %w", record, err))
			continue
		}
		if unlock, free := m.devices.TryLock(d.IQN); free {
			failed = append(failed, m.releaseISCSI(ctx, strings.TrimSuffix(record, ".json"), d, records))
			unlock()
		}
	}
	return errors.Join(failed...)
}

var errInUse = errors.New("a pod has it")

func (m *Manager) releaseDisk(global string) error {
	err := m.unmountUnused(global)
	if err == nil {
		err = os.Remove(global)
	}
	if errors.Is(err, errInUse) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// releaseISCSI logs out of the disk's target, unless another of its disks is
// attached.
func (m *Manager) releaseISCSI(ctx context.Context, global string, d iscsiDisk, records []string) error {
	if err := m.releaseDisk(global); err != nil {
		return err
	}
	if _, err := os.Lstat(global); err == nil {
		return nil // a pod uses it
	}
	// Also by a disk whose record was damaged: it is there as long as its mount point is.
	aside, _ := filepath.Glob(filepath.Join(m.layout.plugin(iscsiPlugin), "iface-*", "*.json.*"))
	shared := slices.ContainsFunc(slices.Concat(records, aside), func(r string) bool {
		original := durable.Original(r)
		if original == global+".json" || !strings.Contains(filepath.Base(r), "-"+d.IQN+"-lun-") {
			return false
		}
		if original != r {
			r = strings.TrimSuffix(original, ".json")
		}
		_, err := os.Lstat(r)
		return err == nil
	})
	if !shared {
		for _, portal := range d.Portals {
			node := []string{"-m", "node", "-p", portal, "-T", d.IQN, "-I", d.Interface}
			if out, err := m.command(ctx, "iscsiadm", append(node, "--logout")...); err != nil {
				klog.ErrorS(err, "Could not log out of an iSCSI target", "portal", portal, "iqn", d.IQN, "output", strings.TrimSpace(out))
			}
			_, _ = m.command(ctx, "iscsiadm", append(node, "-o", "delete")...)
		}
	}
	return os.Remove(global + ".json")
}

// unmountUnused unmounts what is mounted at global unless it is in use, which is when
// a pod's mount shows the same device.
func (m *Manager) unmountUnused(global string) error {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(m.layout.root))
	if err != nil {
		return fmt.Errorf("read mounts below %s: %w", m.layout.root, err)
	}
	at := slices.IndexFunc(infos, func(i *mountinfo.Info) bool { return i.Mountpoint == global })
	if at < 0 {
		return nil
	}
	for _, i := range infos {
		if i.Major == infos[at].Major && i.Minor == infos[at].Minor && strings.HasPrefix(i.Mountpoint, m.layout.pods()+"/") {
			return errInUse
		}
	}
	if err := unix.Unmount(global, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", global, err)
	}
	return nil
}
