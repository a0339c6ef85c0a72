package streaming

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// connections knows all connections, including those that were taken from the HTTP server to
// speak SPDY or WebSocket, which the server cannot close.
type connections struct {
	net.Listener
	mu     sync.Mutex
	all    map[*conn]struct{}
	closed bool
}

func (l *connections) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, list: l}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.cancel()
		nc.Close()
		return nil, net.ErrClosed
	}
	l.all[c] = struct{}{}
	return c, nil
}

func (l *connections) closeAll() {
	l.mu.Lock()
	l.closed = true
	all := l.all
	l.all = map[*conn]struct{}{}
	l.mu.Unlock()
	for c := range all {
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

// conn is a client's connection. Its context ends when the client hangs up, which the
// protocol's reader notices, or when it is closed.
type conn struct {
	net.Conn
	list   *connections
	ctx    context.Context
	cancel context.CancelFunc
	// stall is the time in ns that a write may take; 0 for no limit.
	stall atomic.Int64
}

// dropWhenStalled closes the client's connection when a write to it takes longer than that.
func dropWhenStalled(ctx context.Context, limit time.Duration) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.stall.Store(int64(limit))
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

func (c *conn) Close() error {
	c.cancel()
	c.list.mu.Lock()
	delete(c.list.all, c)
	c.list.mu.Unlock()
	return c.Conn.Close()
}
