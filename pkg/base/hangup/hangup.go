// Package hangup notices that the client of a connection has gone when nobody reads what it
// sent. A server that passes input on reads no more of it than is taken, and so does not come
// to its end, which is all that Go tells of a client.
package hangup

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// interval is how often a connection is looked at. A reader that is not held up comes to the
// end, and to all that is before it, in this time.
const interval = time.Second

// Watch has gone called once the other side of conn has closed it, or has been found
// unreachable, while ctx lasts; what it sent before may be unread. It returns at once, reads
// nothing and can be used beside any other calls of conn. Of a wrapper it looks at what its
// NetConn method returns, as of a tls.Conn; one without a socket is not watched.
//
// The kernel does not know of a client's end before it has room for all that the client had
// sent. A client whose own kernel holds back data when it ends is found some minutes later,
// when that kernel has given up.
func Watch(ctx context.Context, conn net.Conn, gone func()) {
	raw := socket(conn)
	if raw == nil {
		return
	}
	go func() {
		for ticker := time.NewTicker(interval); ; {
			select {
			case <-ctx.Done():
				ticker.Stop()
				return
			case <-ticker.C:
			}
			if hasEnded(raw) && ctx.Err() == nil {
				ticker.Stop()
				gone()
				return
			}
		}
	}()
}

func socket(conn net.Conn) syscall.RawConn {
	for {
		switch c := conn.(type) {
		case syscall.Conn:
			if raw, err := c.SyscallConn(); err == nil {
				return raw
			}
			return nil
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// hasEnded reports whether the other side has ended, or this side has been closed.
func hasEnded(raw syscall.RawConn) bool {
	fds := []unix.PollFd{{Events: unix.POLLRDHUP}} // POLLHUP and POLLERR come in any case
	err := raw.Control(func(fd uintptr) {
		fds[0].Fd = int32(fd)
		_, _ = unix.Poll(fds, 0)
	})
	return err != nil || fds[0].Revents != 0
}
