package harness

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Proxy is between an agent and its Docker daemon. It records every call, and can
// delay, hang, fail or cut those that match a rule: it injects the tests' faults.
type Proxy struct {
	Endpoint string // for the agent's --docker-endpoint

	forward *httputil.ReverseProxy

	mu     sync.Mutex
	calls  []Call
	rules  []*rule
	events map[*context.CancelFunc]bool
}

// Call is one request of the agent to Docker.
type Call struct {
	Method string
	Path   string // without the API version, e.g. /containers/create
	Query  string
	At     time.Time
}

// Changes reports whether the call may change something in Docker.
func (c Call) Changes() bool { return c.Method != http.MethodGet && c.Method != http.MethodHead }

// String returns e.g. "POST /containers/create".
func (c Call) String() string { return c.Method + " " + c.Path }

// Fault is what happens to a call instead of plain forwarding; next forwards it.
type Fault func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)

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
	p := &Proxy{Endpoint: "unix://" + sock, events: map[*context.CancelFunc]bool{}}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", upstream)
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
	}
	p.forward = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "docker"
			r.Out.Host = r.In.Host
		},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		// This is how a dead daemon looks: no answer at all.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatalf("listen for the Docker proxy: %v", err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(p.serve), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() {
		p.Clear()
		_ = srv.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	call := Call{Method: r.Method, Path: apiVersion.ReplaceAllString(r.URL.Path, ""), Query: r.URL.RawQuery, At: time.Now()}
	p.mu.Lock()
	p.calls = append(p.calls, call)
	var fault Fault
	for _, rule := range p.rules {
		if rule.match(call) {
			fault = rule.fault
			break
		}
	}
	if call.Path == "/events" {
		ctx, cancel := context.WithCancel(r.Context())
		r = r.WithContext(ctx)
		p.events[&cancel] = true
		defer func() {
			p.mu.Lock()
			delete(p.events, &cancel)
			p.mu.Unlock()
			cancel()
		}()
	}
	p.mu.Unlock()
	if fault != nil {
		fault(w, r, p.forward.ServeHTTP)
		return
	}
	p.forward.ServeHTTP(w, r)
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

// CutEvents breaks every open event stream and returns how many there were.
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

// Path matches calls whose method is one of those given (space separated, "" for
// any) and whose path contains the text.
func Path(methods, contains string) func(Call) bool {
	return func(c Call) bool {
		return (methods == "" || slices.Contains(strings.Fields(methods), c.Method)) && strings.Contains(c.Path, contains)
	}
}

// Fail answers with an error in Docker's form.
func Fail(status int, message string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"message":"`+message+`"}`)
	}
}

// Hang gives no answer until release is closed or the caller gives up.
func Hang(release <-chan struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		select {
		case <-release:
			next(w, r)
		case <-r.Context().Done():
		}
	}
}

// Delay forwards after d.
func Delay(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		select {
		case <-time.After(d):
			next(w, r)
		case <-r.Context().Done():
		}
	}
}

// CutBefore calls do and breaks the connection; Docker never sees the call.
func CutBefore(do func()) Fault {
	return func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
		do()
		panic(http.ErrAbortHandler)
	}
}

// CutAfter lets Docker complete the call, calls do, and breaks the connection: the
// caller never learns the result.
func CutAfter(do func()) Fault {
	return func(_ http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		// The caller may die in do; Docker has finished by then.
		next(httptest.NewRecorder(), r)
		do()
		panic(http.ErrAbortHandler)
	}
}
