// Package ownsocket is a unix socket for the administrator of the machine alone. Its directory is
// its owner's (0700), and so is the socket (0600); who connects all the same, because he has been
// given a descriptor or the directory is mounted somewhere, is asked of the kernel: root with
// the agent's power over the machine, or the agent's own user.
//
// A path may be longer than the 107 bytes that a socket's address has: it is reached by its
// directory's descriptor.
package ownsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// Listener is an open socket. It is a net.Listener.
type Listener struct {
	*net.UnixListener
	dir  *os.File
	name string
	own  peer
	once sync.Once
	// refusals are logged now and then: a container can make as many as it likes.
	refusals rate.Sometimes
}

// Listen opens the socket, and makes its directory where it is missing. What a killed
// process has left at the path is replaced; a socket on which somebody answers is not, and
// neither is anything else than a socket.
func Listen(ctx context.Context, path string) (*Listener, error) {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open the directory of socket %s: %w", path, err)
	}
	name := filepath.Base(path)
	own, err := self()
	if err == nil {
		err = vacant(ctx, dir, name)
	}
	var l *net.UnixListener
	if err == nil {
		l, err = bind(dir, name)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	return &Listener{UnixListener: l, dir: dir, name: name, own: own, refusals: rate.Sometimes{First: 1, Interval: time.Minute}}, nil
}

// openDir returns the directory, made ours alone.
func openDir(path string) (*os.File, error) {
	const lost = "The socket of this agent, which is made anew."
	if err := durable.MakeWay(path, lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && int(st.Uid) != os.Geteuid() {
		err = fmt.Errorf("%s belongs to user %d", path, st.Uid)
	}
	if err == nil {
		err = dir.Chmod(0o700)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// at is a path of a file in an open directory that is short whatever the directory's is.
func at(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

var errInUse = errors.New("another process answers there")

// vacant returns nil if a socket may be put at the name.
func vacant(ctx context.Context, dir *os.File, name string) error {
	switch fi, err := os.Lstat(at(dir, name)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return errors.New("what is there is no socket; move it away")
	}
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", at(dir, name))
	if err == nil {
		c.Close()
		return errInUse
	}
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// bind makes the socket under another name, so that it has its mode before anybody can find it.
func bind(dir *os.File, name string) (*net.UnixListener, error) {
	fresh := at(dir, "."+name+".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, at(dir, name))
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Accept returns the next connection of somebody who may have it.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peerOf(c)
		if err == nil && l.own.admits(who) {
			return c, nil
		}
		l.refusals.Do(func() {
			klog.InfoS("Connection to the agent's own socket refused: only root of this machine may use it", "uid", who.uid, "pid", who.pid, "err", err)
		})
		c.Close()
	}
}

// Close removes the socket.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	l.once.Do(func() {
		if e := os.Remove(at(l.dir, l.name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		l.dir.Close()
	})
	return err
}

// Dial connects to a socket.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	dir := os.NewFile(uintptr(fd), filepath.Dir(path))
	defer dir.Close()
	return (&net.Dialer{}).DialContext(ctx, "unix", at(dir, filepath.Base(path)))
}
