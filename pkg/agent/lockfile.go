package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// errContended ends the agent with --exit-on-lock-contention.
var errContended = errors.New("somebody else has opened or removed the file of --lock-file, and --exit-on-lock-contention is set")

// lockFileRetry is how often a lock that somebody else holds is tried.
const lockFileRetry = 250 * time.Millisecond

// lockFile waits until it holds the lock of the file at path, as the kubelet does with --lock-file, and
// returns what gives it up and what waits, with watch set, until somebody else opens the file: then it
// returns errContended. Without a path both do nothing.
func lockFile(ctx context.Context, path string, watch bool) (contended func(context.Context) error, release func(), err error) {
	nobody := func(context.Context) error { return nil }
	if path == "" {
		return nobody, func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open --lock-file: %w", err)
	}
	if err := holdLock(ctx, f); err != nil {
		f.Close()
		return nil, nil, err
	}
	if !watch {
		return nobody, func() { f.Close() }, nil
	}
	events, err := watchFile(path)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	contended = func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { events.Close() })()
		_, err := events.Read(make([]byte, unix.SizeofInotifyEvent+unix.PathMax))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch --lock-file: %w", err)
		}
		return errContended
	}
	return contended, func() { events.Close(); f.Close() }, nil
}

func holdLock(ctx context.Context, f *os.File) error {
	for first := true; ; first = false {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if first {
			klog.InfoS("Waiting for the lock of --lock-file, which somebody else holds", "path", f.Name())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockFileRetry):
		}
	}
}

// watchFile returns what can be read from once somebody has opened or removed the file at path.
func watchFile(path string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch --lock-file: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN|unix.IN_DELETE_SELF); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch --lock-file: %w", err)
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}
