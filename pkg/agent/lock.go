package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// lockName is the file in the root directory that a running agent holds.
const lockName = "mini-kubelet.lock"

// errLocked is returned by lock when another process holds the root directory.
var errLocked = errors.New("another mini-kubelet uses this root directory")

// clearLock moves aside what no agent can hold as its lock.
func clearLock(name string) error {
	fi, err := os.Stat(name) // a link is followed, as it is when it is locked
	if err != nil || !fi.IsDir() && fi.Mode()&(fs.ModeSocket|fs.ModeDevice) == 0 {
		return nil // opening it says what is wrong
	}
	err = durable.MoveAside(name, "Nothing: the file is empty.", &fs.PathError{Op: "lock", Path: name, Err: safefile.ErrNotRegular})
	if errors.Is(err, durable.ErrDamaged) {
		return nil
	}
	return err
}

// lock reserves the root directory for this process until unlock is called or the
// process ends, however it ends. It records what the first agent finds in the
// directory.
func lock(ctx context.Context, root string) (unlock func(), err error) {
	_, missing := os.Lstat(root)
	if err := os.MkdirAll(root, 0o750); err != nil {
		return nil, fmt.Errorf("create root directory: %w", err)
	}
	name := filepath.Join(root, lockName)
	if err := clearLock(name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, errLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if err := volume.Note(ctx, root, missing == nil, lockName); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
