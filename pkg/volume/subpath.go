package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// SubPath returns a host path that shows subPath of the named volume; if it is
// missing, it is made as a directory. A container that can write to the volume may
// replace its directories with links at any moment, so the kernel walks the path
// without leaving the volume (openat2), and the result is bind-mounted by its
// descriptor to volume-subpaths/<volume>/<container>/<index>, which only the agent
// can write. Repeated calls find that mount again.
func (m *Manager) SubPath(ctx context.Context, pod *v1.Pod, container string, index int, name, subPath string) (string, error) {
	dir, err := m.layout.pod(pod.UID)
	if err == nil {
		err = errors.Join(element("container name", container), element("volume name", name))
	}
	if err != nil {
		return "", err
	}
	v, err := m.Path(pod, name)
	if err != nil {
		return "", err
	}
	target := filepath.Join(dir, subPathsDir, name, container, strconv.Itoa(index))
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errors.New("timed out waiting for the condition"))
	defer cancel()
	err = m.serial.do(ctx, pod.UID, func(w *work) error {
		w.at(fmt.Sprintf("preparing subPath %q of volume %q", bounds.Quote(subPath), name))
		fd, err := openBeneath(v.Host, subPath)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return bindTo(fd, target)
	})
	if err != nil {
		return "", err
	}
	return target, nil
}

// openBeneath opens subPath below root with O_PATH, never outside of it, and makes
// missing directories with root's own mode.
func openBeneath(root, subPath string) (int, error) {
	if !filepath.IsLocal(subPath) {
		return -1, fmt.Errorf("subPath %q leaves the volume", bounds.Quote(subPath))
	}
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open volume %s: %w", root, err)
	}
	defer unix.Close(base)
	fd, err := openIn(base, subPath)
	if !errors.Is(err, unix.ENOENT) {
		return fd, explain(err, subPath)
	}
	var st unix.Stat_t
	if err := unix.Fstat(base, &st); err != nil {
		return -1, fmt.Errorf("stat volume %s: %w", root, err)
	}
	return makeBeneath(base, subPath, st.Mode&0o7777)
}

// makeBeneath walks subPath from base and makes each directory that is missing.
func makeBeneath(base int, subPath string, mode uint32) (int, error) {
	at, err := unix.Dup(base)
	if err != nil {
		return -1, err
	}
	walked := ""
	for part := range strings.SplitSeq(filepath.Clean(subPath), "/") {
		walked = filepath.Join(walked, part)
		// From base, not from at: a link on the way may point up, within base.
		next, err := openIn(base, walked)
		if errors.Is(err, unix.ENOENT) {
			if err = makeDirectory(at, part, mode); err == nil || errors.Is(err, unix.EEXIST) {
				next, err = openIn(base, walked)
			}
		}
		unix.Close(at)
		if err != nil {
			return -1, explain(err, walked)
		}
		at = next
	}
	return at, nil
}

func openIn(base int, path string) (int, error) {
	return unix.Openat2(base, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
}

func explain(err error, path string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("subPath %q leads out of the volume", bounds.Quote(path))
	}
	return fmt.Errorf("open subPath %q: %w", bounds.Quote(path), err)
}

// makeDirectory makes a directory with these rights and the sticky bit, whatever the
// umask; the set-group-ID bit comes from the parent. A chmod afterwards could hit what
// a container has put in its place. The umask belongs to the process, unless a thread
// unshares it: such a thread is fit for nothing else, and ends.
func makeDirectory(at int, name string, mode uint32) error {
	made := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			unix.Umask(0)
			err = unix.Mkdirat(at, name, mode&(unix.S_ISVTX|0o777))
		}
		made <- err
	}()
	return <-made
}

// bindTo bind-mounts what fd refers to at target, unless it is mounted there
// already.
func bindTo(fd int, target string) error {
	var source unix.Stat_t
	if err := unix.Fstat(fd, &source); err != nil {
		return err
	}
	mounted, err := isMounted(target)
	if err != nil {
		return err
	}
	if mounted {
		var have unix.Stat_t
		if err := unix.Lstat(target, &have); err == nil && have.Dev == source.Dev && have.Ino == source.Ino {
			return nil
		}
		if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	if err := makeTarget(target, source.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return err
	}
	if err := unix.Mount(procPath(fd), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind subPath to %s: %w", target, err)
	}
	return nil
}

// makeTarget makes the empty directory or file to mount over.
func makeTarget(target string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if fi, err := os.Lstat(target); err == nil && fi.IsDir() != dir {
		if err := os.Remove(target); err != nil {
			return err
		}
	}
	if dir {
		return os.MkdirAll(target, 0o750)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}

// procPath names an open descriptor for calls that take only paths.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
