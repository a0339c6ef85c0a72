package harness

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Proxy is between an agent and something that it calls: Docker (StartProxy), network
// and credential plug-ins (StartPlugins), a CSI driver (StartCSIProxy), the API server
// (StartAPIProxy). It records every call, and can do a fault to those that match a rule.
type Proxy struct {
	Endpoint string // at which the agent reaches it

	forward http.Handler

	mu     sync.Mutex
	calls  []Call
	rules  []*rule
	events map[*context.CancelFunc]bool
}

type rule struct {
	match func(Call) bool
	fault Fault
}

var apiVersion = regexp.MustCompile(`^/v\d+\.\d+`)

// StartProxy starts a proxy to the daemon that ends with the test.
func StartProxy(t T, d *Dockerd) *Proxy {
	t.Helper()
	dir, _, err := newDir("p")
	if err != nil {
		t.Fatalf("%v", err)
	}
	sock := filepath.Join(dir, "sock")
	upstream := strings.TrimPrefix(d.Endpoint, "unix://")
	p := &Proxy{Endpoint: "unix://" + sock}
	p.forward = reverse(t, &http.Transport{DialContext: toSocket(upstream)}, "http", "docker")
	p.serveOn(t, &http.Server{}, sock)
	return p
}

// toSocket dials a socket, whatever the address.
func toSocket(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
}

// reverse forwards requests as they are.
func reverse(t T, transport *http.Transport, scheme, host string) *httputil.ReverseProxy {
	transport.DisableCompression, transport.MaxIdleConnsPerHost = true, 64
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = scheme, host
			r.Out.Host = r.In.Host
		},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		// This is how something dead looks: no answer at all.
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, _ error) { cut(r) },
	}
}

// serveOn serves the proxy at a socket until the test ends.
func (p *Proxy) serveOn(t T, srv *http.Server, sock string) {
	t.Helper()
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatalf("listen for a proxy: %v", err)
	}
	p.serveAt(t, srv, l)
}

func (p *Proxy) serveAt(t T, srv *http.Server, l net.Listener) {
	srv.Handler, srv.ErrorLog = http.HandlerFunc(p.serve), log.New(io.Discard, "", 0)
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	go func() {
		if srv.TLSConfig != nil {
			_ = srv.ServeTLS(l, "", "")
			return
		}
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		p.Clear()
		_ = srv.Close()
	})
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	call := Call{Method: r.Method, Path: apiVersion.ReplaceAllString(r.URL.Path, ""), Query: r.URL.RawQuery, At: time.Now()}
	if text, err := url.QueryUnescape(call.Query); err == nil {
		call.Query = text
	}
	if isGRPC(r) {
		message, _ := io.ReadAll(r.Body) // none is a stream
		call.Query, r.Body = string(message), io.NopCloser(bytes.NewReader(message))
	}
	p.mu.Lock()
	p.calls = append(p.calls, call)
	fault := Fault(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) { next(w, r) })
	for _, rule := range p.rules {
		if rule.match(call) {
			fault = rule.fault
			break
		}
	}
	if call.Path == "/events" || strings.Contains(call.Query, "watch=true") {
		ctx, cancel := context.WithCancel(r.Context())
		r = r.WithContext(ctx)
		if p.events == nil {
			p.events = map[*context.CancelFunc]bool{}
		}
		p.events[&cancel] = true
		defer func() {
			p.mu.Lock()
			delete(p.events, &cancel)
			p.mu.Unlock()
			cancel()
		}()
	}
	p.mu.Unlock()
	fault(w, r, p.forward.ServeHTTP)
}

// On applies the fault to every call that match accepts, until the returned
// function is called. Of several rules the one added first wins. match is called
// under a lock, one call at a time, so it may count.
func (p *Proxy) On(match func(Call) bool, fault Fault) (remove func()) {
	added := &rule{match: match, fault: fault}
	p.mu.Lock()
	p.rules = append(p.rules, added)
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		p.rules = slices.DeleteFunc(p.rules, func(r *rule) bool { return r == added })
		p.mu.Unlock()
	}
}

// Clear removes all rules.
func (p *Proxy) Clear() {
	p.mu.Lock()
	p.rules = nil
	p.mu.Unlock()
}

// CutEvents breaks every open stream of Docker's events and every watch of the API
// server, and returns how many there were.
func (p *Proxy) CutEvents() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for cancel := range p.events {
		(*cancel)()
	}
	return len(p.events)
}

// Calls returns the calls so far, oldest first.
func (p *Proxy) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// Forget drops the record of the calls so far.
func (p *Proxy) Forget() {
	p.mu.Lock()
	p.calls = nil
	p.mu.Unlock()
}

// Count returns how many of the calls so far match accepts.
func (p *Proxy) Count(match func(Call) bool) int {
	n := 0
	for _, c := range p.Calls() {
		if match(c) {
			n++
		}
	}
	return n
}
