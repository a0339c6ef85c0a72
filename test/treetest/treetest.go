// Package treetest makes trees that are hard to walk, for tests only.
package treetest

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Exchange exchanges two names for each other, as often as it can until the test ends or
// stop is called: what a container that owns a volume may do to it.
func Exchange(t testing.TB, a, b string) (stop func()) {
	t.Helper()
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
		t.Fatalf("exchange %s and %s: %v", a, b, err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default: // either may be missing for a moment
				_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	}()
	running := true
	stop = func() {
		if running {
			running = false
			close(end)
			<-ended
		}
	}
	t.Cleanup(stop)
	return stop
}

// Deep makes that many directories below each other, of which no path leads to the
// deepest: it would be too long.
func Deep(t testing.TB, top string, levels int) {
	t.Helper()
	fd, err := unix.Open(top, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { unix.Close(fd) }()
	const name = "directory"
	for range levels {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		below, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = below
	}
}

// MountTmpfs mounts an empty file system for the time of the test, or skips that.
func MountTmpfs(t testing.TB, at string) { mount(t, "tmpfs", at, "tmpfs", 0) }

// Bind mounts a directory or file at another until the test ends or unmount is called, or
// skips the test.
func Bind(t testing.TB, source, at string) (unmount func()) {
	return mount(t, source, at, "", unix.MS_BIND)
}

func mount(t testing.TB, source, at, kind string, flags uintptr) (unmount func()) {
	t.Helper()
	err := unix.Mount(source, at, kind, flags, "")
	if err == unix.EPERM {
		t.Skip("needs the right to mount")
	}
	if err != nil {
		t.Fatalf("mount %s: %v", strings.TrimSpace(kind+" "+at), err)
	}
	unmount = func() { _ = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) }
	t.Cleanup(unmount)
	return unmount
}
