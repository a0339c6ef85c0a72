package dockershim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// listen opens the socket for root and its group only. A socket file on which nobody listens
// any more is replaced.
func listen(ctx context.Context, endpoint string) (net.Listener, error) {
	path, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return nil, fmt.Errorf("listen on %q: want unix:///path/to/socket", endpoint)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create the socket's directory: %w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("listen on %s: the file is there and is no socket", path)
		}
		var d net.Dialer
		if conn, err := d.DialContext(ctx, "unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("listen on %s: another process does", path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove the stale socket: %w", err)
		}
	}
	l, err := bindPrivately(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// socket is a listener whose file was moved after it was bound.
type socket struct {
	*net.UnixListener
	path string
}

// Close also removes the file, as the library does with one that stays where it was bound.
func (s socket) Close() error {
	_ = os.Remove(s.path)
	return s.UnixListener.Close()
}

// bindPrivately makes the socket in a directory that only root can enter, and moves it to its
// place once it has its mode: a bound socket has what the umask leaves of 0777, and the umask is
// the whole process's.
func bindPrivately(ctx context.Context, path string) (_ net.Listener, err error) {
	private := path + ".new"
	bound := filepath.Join(private, "s")
	tidy := func() {
		_ = os.Remove(bound)
		_ = os.Remove(private)
	}
	tidy() // what a crash has left
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, err
	}
	defer tidy()
	dir, err := os.Open(private)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var lc net.ListenConfig
	// By descriptor, since the path of a socket has 107 bytes at most.
	l, err := lc.Listen(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd()))
	if err != nil {
		return nil, err
	}
	unix := l.(*net.UnixListener)
	unix.SetUnlinkOnClose(false)
	if err = os.Chmod(bound, 0o660); err == nil {
		err = os.Rename(bound, path)
	}
	if err != nil {
		unix.Close()
		return nil, err
	}
	return socket{unix, path}, nil
}
