package streaming

import (
	"container/list"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/hangup"
)

// Any local process can connect, so that descriptors would run out without these bounds.
const (
	// maxStrangers is how many connections may be open that have not shown a token yet. One more
	// closes the oldest of them: who has a token shows it at once, and need not wait for those
	// that have none. They also end by themselves, within headerTimeout.
	maxStrangers = 256
	// maxSessions is how many connections with a token may be open: as many as the kubelet API
	// has connections, through which they come.
	maxSessions = 1024
	// headerTimeout is how long a client may take for its request's headers.
	headerTimeout = 5 * time.Second
	// maxHeader is the length of these headers, in bytes.
	maxHeader = 64 << 10
)

// connections knows all connections, including those that were taken from the HTTP server to
// speak SPDY or WebSocket, which the server cannot close.
type connections struct {
	net.Listener
	mu        sync.Mutex
	strangers list.List // of *conn, oldest first
	sessions  map[*conn]struct{}
	closed    bool
}

func (l *connections) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, list: l}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	oldest, ok := l.add(c)
	if oldest != nil {
		oldest.Close()
	}
	if !ok {
		c.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// add takes up a stranger, and returns one that has to be closed for it. It returns false when
// no connections are taken any more.
func (l *connections) add(c *conn) (oldest *conn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, false
	}
	if l.strangers.Len() >= maxStrangers {
		oldest = l.strangers.Front().Value.(*conn)
	}
	c.stranger = l.strangers.PushBack(c)
	return oldest, true
}

// admit makes a stranger that has shown a token a session. It returns false when there are too
// many, or the connection has been closed meanwhile.
func (l *connections) admit(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.stranger == nil || len(l.sessions) >= maxSessions {
		return false
	}
	l.strangers.Remove(c.stranger)
	c.stranger = nil
	l.sessions[c] = struct{}{}
	return true
}

func (l *connections) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.stranger != nil {
		l.strangers.Remove(c.stranger)
		c.stranger = nil
	}
	delete(l.sessions, c)
}

func (l *connections) closeAll() {
	l.mu.Lock()
	l.closed = true
	all := slices.Collect(maps.Keys(l.sessions))
	for e := l.strangers.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*conn))
	}
	l.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

type connKey struct{}

// context gives requests a context that ends with their connection. The HTTP server's own
// context does not end with it after an upgrade.
func (l *connections) context(ctx context.Context, nc net.Conn) context.Context {
	c := nc.(*conn)
	ctx, cancel := context.WithCancel(context.WithValue(ctx, connKey{}, c))
	context.AfterFunc(c.ctx, cancel)
	return ctx
}

// state notes which connections were taken from the HTTP server, and watches them in its place.
func (l *connections) state(nc net.Conn, s http.ConnState) {
	if c, ok := nc.(*conn); ok && s == http.StateHijacked {
		c.upgraded.Store(true)
		hangup.Watch(c.ctx, c.Conn, func() { c.Close() })
	}
}

// conn is a client's connection. Its context ends when the client hangs up, which whoever reads
// notices at once, or when it is closed.
type conn struct {
	net.Conn
	list     *connections
	stranger *list.Element // in list.strangers; nil for a session. list.mu guards it
	ctx      context.Context
	cancel   context.CancelFunc
	// stall is the time in ns that a write may take; 0 for no limit.
	stall    atomic.Int64
	upgraded atomic.Bool // the HTTP server has no part in it any more
}

// admit counts the request's connection among the sessions.
func admit(ctx context.Context) bool {
	c, ok := ctx.Value(connKey{}).(*conn)
	return ok && c.list.admit(c)
}

// dropWhenStalled closes the client's connection when a write to it takes longer than that.
func dropWhenStalled(ctx context.Context, limit time.Duration) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.stall.Store(int64(limit))
	}
}

// hangUpUpgraded closes the client's connection, if the HTTP server will not do so.
func hangUpUpgraded(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok && c.upgraded.Load() {
		c.Close()
	}
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.cancel()
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	limit := c.stall.Load()
	if limit == 0 {
		return c.Conn.Write(b)
	}
	if err := c.SetWriteDeadline(time.Now().Add(time.Duration(limit))); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		c.Close()
	}
	return n, err
}

// Close can be called more than once. The SPDY library, which may come second, waits with an
// error for somebody to hear it.
func (c *conn) Close() error {
	c.cancel()
	c.list.remove(c)
	if err := c.Conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
