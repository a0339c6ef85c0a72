package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	mount "k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/program"
)

// bindDir bind-mounts a directory at dir unless something is mounted there.
func (m *Manager) bindDir(source, dir string, readOnly bool, options []string) error {
	options = append([]string{"bind"}, options...)
	if readOnly {
		options = append(options, "ro")
	}
	return m.mountHelper(source, dir, "", options)
}

// mountHelper mounts with the host's mount(8) and its helpers unless something is
// mounted at dir. After a failure it cleans up.
func (m *Manager) mountHelper(source, dir, fsType string, options []string) error {
	if strings.HasPrefix(source, "-") { // perhaps a server's name: mount(8) takes it for an option
		return fmt.Errorf("%q cannot be mounted", source)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	mounted, err := isMounted(dir)
	if mounted || err != nil {
		return err
	}
	if err := m.mounter().Mount(source, dir, fsType, options); err != nil {
		return m.undoMount(dir, err)
	}
	return nil
}

// undoMount cleans up after a mount that failed with err.
func (m *Manager) undoMount(dir string, err error) error {
	if mounted, _ := isMounted(dir); mounted {
		if e := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); e != nil {
			return errors.Join(err, e)
		}
	}
	_ = os.Remove(dir)
	return err
}

// mountDisk mounts a disk's file system at dir unless it is mounted there. A disk
// without a file system is formatted, unless it is to be mounted read-only.
func (m *Manager) mountDisk(disk, dir, fsType string, readOnly bool, options []string) error {
	if fsType != "" { // it becomes the name of a program, mkfs.<type>
		if err := element("file system", fsType); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	mounted, err := isMounted(dir)
	if mounted || err != nil {
		return err
	}
	if readOnly {
		options = append([]string{"ro"}, options...)
	}
	d := mount.NewSafeFormatAndMount(m.mounter(), utilexec.New())
	if err := d.FormatAndMount(disk, dir, fsType, options); err != nil {
		return m.undoMount(dir, fmt.Errorf("failed to mount the volume as %q: %w", fsType, err))
	}
	return nil
}

// maxCommandOutput is how many bytes a program of the host may write.
const maxCommandOutput = 1 << 20

// command runs a program of the host and returns all of its output.
func command(ctx context.Context, name string, args ...string) (string, error) {
	if p, err := lookPath(name); err == nil {
		name = p
	}
	out, complaint, err := program.Program{Path: name, Args: args, MaxOutput: maxCommandOutput}.Run(ctx)
	return string(out) + string(complaint), err
}

// plugin is the directory in which a plug-in keeps what all pods share.
func (l layout) plugin(name string) string { return filepath.Join(l.root, "plugins", name) }
