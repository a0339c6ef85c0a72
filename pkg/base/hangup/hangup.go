// Package hangup notices that the client of a connection has gone when nobody reads what it
// sent. A server that passes input on reads no more of it than is taken, and so does not come
// to its end, which is all that Go tells of a client.
package hangup

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// interval is how often a connection is looked at. A reader that is not held up comes to the
// end, and to all that is before it, in this time.
const interval = time.Second

// patience is how long what one side has left may wait to be read before it is dropped.
const patience = 10 * time.Second

// Watch has gone called once the other side of conn has been found unreachable, or has closed it and
// nobody has read any of what it left for ten seconds, while ctx lasts. Some clients have no other
// way to end their input than to close. Watch returns at once, reads nothing and can be used beside
// any other calls of conn. Of a wrapper it looks at what its NetConn method returns, as of a
// tls.Conn; one without a socket is not watched.
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
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for left, still := -1, 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			state, unread := look(raw)
			switch {
			case state == open:
				continue
			case state == ended && unread != left:
				left, still = unread, 0
				continue
			case state == ended && still < int(patience/interval):
				still++
				continue
			}
			if ctx.Err() == nil {
				gone()
			}
			return
		}
	}()
}

// Leave closes a connection that nobody here uses any more. What was written is sent before, for ten
// seconds or until ctx is done; then it is dropped, and the other side hears of the end although it
// has not read all. Who still writes to this side may hear of it before having read all, too.
func Leave(ctx context.Context, conn *net.TCPConn) {
	defer conn.Close()
	raw := socket(conn)
	if raw == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(interval / 20)
	defer ticker.Stop()
	for {
		if unsent, err := queued(raw, unix.TIOCOUTQ); err != nil || unsent == 0 {
			return
		}
		if s, _ := look(raw); s == dead {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			_ = conn.SetLinger(0)
			return
		}
	}
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

// What a connection is.
type state int

const (
	open  state = iota
	ended       // by the other side, which may have left something to be read
	dead        // unreachable, reset, or closed here
)

// look reports how a connection is, and how much of it is unread.
func look(raw syscall.RawConn) (s state, unread int) {
	fds := []unix.PollFd{{Events: unix.POLLRDHUP}} // POLLHUP and POLLERR come in any case
	err := raw.Control(func(fd uintptr) {
		fds[0].Fd = int32(fd)
		_, _ = unix.Poll(fds, 0)
	})
	switch got := fds[0].Revents; {
	case err != nil || got&^unix.POLLRDHUP != 0:
		return dead, 0
	case got == 0:
		return open, 0
	}
	unread, _ = queued(raw, unix.TIOCINQ)
	return ended, unread
}

// queued asks how many bytes a socket has in a queue of its kernel.
func queued(raw syscall.RawConn, which uint) (n int, err error) {
	closed := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), which) })
	return n, errors.Join(closed, err)
}
