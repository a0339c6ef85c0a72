package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// crowd is a listener that never shuts anybody out while it is full of clients that
// do nothing: beyond its limit, a new connection takes the place of another. First
// those give way that were never let in by the filter, whatever they do: to have a
// request served costs them nothing. Then idle ones that were let in before, then
// those of them whose next request is being judged; of each kind the oldest.
// A request that was let in keeps its connection. Only if all are such does a new
// one wait. On ports without a filter nobody is let in, so that nobody waits. A client
// whose request gives way before anything was answered is told so with 503, except over
// TLS, where nobody but the connection's owner can say a word.
//
// It needs http.Server's ConnState and ConnContext: see watch.
type crowd struct {
	net.Listener
	limit int // of open connections
	// silent: nobody is told why he gives way; set before Accept.
	silent bool

	mu   sync.Mutex
	all  map[*guest]struct{} // without those that have given way
	next uint64              // number of the next connection
	// room is signalled when a connection ends or may give way; one Accept waits.
	room   chan struct{}
	once   sync.Once
	closed chan struct{}
}

// guest is a connection of a crowd. Its fields are the crowd's, under its lock.
type guest struct {
	net.Conn
	crowd    *crowd
	number   uint64
	busy     bool // serves a request whose header has been read
	admitted bool // the request that it serves was let in
	known    bool // one of its requests was
	answered bool // something of the answer to the request that it serves was written
	closed   bool
}

func newCrowd(l net.Listener, limit int) *crowd {
	return &crowd{Listener: l, limit: limit, all: map[*guest]struct{}{}, room: make(chan struct{}, 1), closed: make(chan struct{})}
}

// watch has an HTTP server tell the crowd what its connections do.
func (c *crowd) watch(s *http.Server) {
	s.ConnState = c.state
	s.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		return context.WithValue(ctx, guestKey{}, guestOf(nc))
	}
}

func (c *crowd) Accept() (net.Conn, error) {
	nc, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: nc, crowd: c}
	for {
		c.mu.Lock()
		if len(c.all) < c.limit {
			g.number = c.next
			c.next++
			c.all[g] = struct{}{}
			c.mu.Unlock()
			return g, nil
		}
		out := c.givesWay()
		c.mu.Unlock()
		if out != nil {
			klog.V(4).InfoS("Connection gives way to a new one", "client", out.RemoteAddr(), "newClient", nc.RemoteAddr())
			out.refuse()
			continue
		}
		select {
		case <-c.room:
		case <-c.closed:
			nc.Close()
			return nil, net.ErrClosed
		}
	}
}

// Close ends Accept also where it waits for room.
func (c *crowd) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Listener.Close()
}

// givesWay takes out the connection to be closed for another, nil if there is none.
func (c *crowd) givesWay() (out *guest) {
	for g := range c.all {
		if !g.admitted && (out == nil || g.rank() < out.rank() || g.rank() == out.rank() && g.number < out.number) {
			out = g
		}
	}
	delete(c.all, out)
	return out
}

// rank orders connections without an admitted request: the lower ones give way first.
func (g *guest) rank() int {
	switch {
	case !g.known:
		return 0
	case !g.busy:
		return 1
	}
	return 2
}

// turnedAway is what a client is told whose request gives way.
const turnedAway = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Content-Length: 20\r\n\r\ntoo many connections"

// refuse closes the connection. If its client waits for an answer of which nothing was
// written, it is told why: the connection's buffer is empty then, so that this does not block.
func (g *guest) refuse() {
	g.crowd.mu.Lock()
	waits := g.busy && !g.answered && !g.closed && !g.crowd.silent
	g.closed = true // what its handler still writes goes nowhere
	g.crowd.mu.Unlock()
	if waits {
		_ = g.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = g.Conn.Write([]byte(turnedAway))
	}
	g.Close()
}

// Write implements net.Conn.
func (g *guest) Write(p []byte) (int, error) {
	g.crowd.mu.Lock()
	closed := g.closed
	g.answered = true
	g.crowd.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	return g.Conn.Write(p)
}

// Close can be called more than once.
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	delete(g.crowd.all, g)
	g.closed = true
	g.crowd.mu.Unlock()
	g.crowd.wake()
	return g.Conn.Close()
}

// NetConn returns the connection that the guest wraps.
func (g *guest) NetConn() net.Conn { return g.Conn }

func (c *crowd) wake() {
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// state follows what the HTTP server says of its connections.
func (c *crowd) state(nc net.Conn, s http.ConnState) {
	g := guestOf(nc)
	if g == nil {
		return
	}
	c.mu.Lock()
	switch s {
	case http.StateActive:
		g.busy, g.answered = true, false
	case http.StateIdle:
		g.busy, g.admitted = false, false
	}
	c.mu.Unlock()
	if s == http.StateIdle {
		c.wake()
	}
}

type guestKey struct{}

// letIn marks the connection of a request that may be served: until the request has
// ended, it gives way to none. It returns false if the connection has just given way.
func letIn(ctx context.Context) bool {
	g, ok := ctx.Value(guestKey{}).(*guest)
	if !ok || g == nil {
		return true
	}
	g.crowd.mu.Lock()
	defer g.crowd.mu.Unlock()
	if _, here := g.crowd.all[g]; !here {
		return false
	}
	g.admitted, g.known = true, true
	return true
}

func guestOf(nc net.Conn) *guest {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	g, _ := nc.(*guest)
	return g
}
