package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/hangup"
)

// Limits of requests to the kubelet API. Its server has no timeouts for reading a
// request or writing an answer, because a log may be followed for days: each
// request gets its own instead.
const (
	// shortTimeout bounds requests for known state.
	shortTimeout = time.Minute
	// stallTimeout is how long a client may read nothing of its answer before it is cut
	// off. It is the kubelet's write timeout: a person may pause a pager.
	stallTimeout = 4 * time.Hour
	// apiIdleTimeout is as long as Go's clients, including the API server, keep a
	// connection: one that is closed earlier may be in use again at that moment.
	apiIdleTimeout = 90 * time.Second
	// maxBody is more than any request has: parameters are in the URL.
	maxBody = 64 << 10
)

// short bounds every request; longRequests lifts the bounds for those it wraps.
func short(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		until := time.Now().Add(shortTimeout)
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(until)
		_ = rc.SetWriteDeadline(until)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// longRequests are those that last as long as the client, the container or the
// server: streams, followed logs, commands. It owns them: after end and wait none
// is left. A nil *longRequests has none.
type longRequests struct {
	stall   time.Duration // stallTimeout, except in tests
	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

func newLongRequests() *longRequests {
	l := &longRequests{stall: stallTimeout}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// end cancels all of them and refuses new ones.
func (l *longRequests) end() {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.cancel()
}

// wait returns when all have returned; call it after end.
func (l *longRequests) wait() {
	if l != nil {
		l.running.Wait()
	}
}

func (l *longRequests) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.running.Add(1)
	}
	return !l.ended
}

// handler lifts the limits of short requests. The request's context ends with the
// client's connection, even after an upgrade, and when the server shuts down.
func (l *longRequests) handler(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !l.begin() {
			http.Error(w, "The server is shutting down.", http.StatusServiceUnavailable)
			return
		}
		defer l.running.Done()
		// The server watches for the client's end only once the body has been read.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(l.ctx, cancel)()
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Time{})
		_ = rc.SetWriteDeadline(time.Time{})
		next(&longWriter{ResponseWriter: w, rc: rc, stall: l.stall, ctx: ctx, cancel: cancel}, r.WithContext(ctx))
	}
}

// longWriter cuts off a client that reads nothing for too long.
type longWriter struct {
	http.ResponseWriter
	rc     *http.ResponseController
	stall  time.Duration
	ctx    context.Context
	cancel context.CancelFunc
	set    time.Time // when the deadline was last extended
}

func (w *longWriter) Write(p []byte) (int, error) {
	w.putOff()
	return w.ResponseWriter.Write(p)
}

// FlushError sends what has been written.
func (w *longWriter) FlushError() error {
	w.putOff()
	return w.rc.Flush()
}

// Flush is for callers that do not check for errors.
func (w *longWriter) Flush() { _ = w.FlushError() }

// putOff extends the deadline, but not for each of many lines.
func (w *longWriter) putOff() {
	if now := time.Now(); now.Sub(w.set) > w.stall/16 {
		w.set = now
		_ = w.rc.SetWriteDeadline(now.Add(w.stall))
	}
}

// Hijack hands over the connection, which closes when the request's context ends,
// and whose end by the client ends the context, whether it is read or not.
func (w *longWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, buffered, err := w.rc.Hijack()
	if err != nil {
		return nil, nil, err
	}
	c := &upgraded{Conn: raw, buffered: buffered.Reader, stall: w.stall, cancel: w.cancel}
	context.AfterFunc(w.ctx, func() { raw.Close() })
	hangup.Watch(w.ctx, raw, w.cancel)
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}

// upgraded is the connection of a client that speaks SPDY or WebSocket.
type upgraded struct {
	net.Conn
	buffered *bufio.Reader // begins with what arrived together with the request
	stall    time.Duration
	cancel   context.CancelFunc
}

func (c *upgraded) Read(p []byte) (int, error) {
	n, err := c.buffered.Read(p)
	if n > 0 {
		return n, nil // the error, if there is one, comes again once this is passed on
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.cancel()
	}
	return n, err
}

func (c *upgraded) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.cancel()
	}
	return n, err
}
