package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// lockName is the file in the root directory that a running agent holds.
const lockName = "mini-kubelet.lock"

// errLocked is returned by lock when another process holds the root directory.
var errLocked = errors.New("another mini-kubelet uses this root directory")

// lock reserves the root directory for this process until unlock is called or the
// process ends, however it ends. It records what the first agent finds in the
// directory.
func lock(root string) (unlock func(), err error) {
	_, missing := os.Lstat(root)
	if err := os.MkdirAll(root, 0o750); err != nil {
		return nil, fmt.Errorf("create root directory: %w", err)
	}
	name := filepath.Join(root, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
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
	if err := volume.Note(root, missing == nil, lockName); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
