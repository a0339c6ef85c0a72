// Package ui serves the live page of one node to a browser on the machine: `mini-kubelet ui` runs it for as long as somebody
// wants to look. It is a view of the agent's journal and of its pods, which it asks for over the agent's own socket; the agent does
// not listen for it. It changes nothing, but for an agent in teaching mode, whose gates it opens and closes.
//
//	browser ──http──▶ ui.Server ──unix socket──▶ agent
//	   /         the page: one file, without anything of the node
//	   /events   the journal as server-sent events, passed on as the agent sends it
//	   /pods     what is wanted of each pod beside what is seen of it (pods.go)
//	   /teach    what waits at the gates of teaching mode; with POST, opens and closes them (teach.go)
//	   /bundle   what is shown in place of an agent (bundle.go)
//
// It listens on 127.0.0.1 alone. Whatever is about the node needs the token, which the command prints as the fragment of the
// page's address, so that it is in no request line; the page sends it as a header. Requests must mean this server by their Host
// header, which a name that an attacker lets resolve to 127.0.0.1 does not, and come from the page by their Origin header, which
// a POST must have.
package ui

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

// Agent is whose page it is. It is called concurrently.
type Agent interface {
	// Journal opens the journal as server-sent events, what comes after the event of that ID, or all for "", until ctx ends. The
	// caller closes it.
	Journal(ctx context.Context, lastEventID string) (io.ReadCloser, error)
	// Pods lists the agent's pods with their statuses.
	Pods(ctx context.Context) ([]v1.Pod, error)
	// Teach does something with the gates of teaching mode, unless do is nil, and returns what they are at then; nil if the agent is
	// not in teaching mode.
	Teach(ctx context.Context, do *server.TeachRequest) (*gate.State, error)
}

// Config is what a Server is made from.
type Config struct {
	Agent Agent // required
	Port  int   // of 127.0.0.1; 0: one that is free
	// Stall is how long a browser may read nothing of what is sent to it before it is cut off; it comes back and goes on where it
	// was. 0: five seconds.
	Stall time.Duration
}

const (
	defaultStall   = 5 * time.Second
	maxConnections = 64 // a browser opens six
	headerTimeout  = 5 * time.Second
	answerTimeout  = 30 * time.Second
	idleTimeout    = 30 * time.Second
	shutdownGrace  = time.Second
	maxHeaderBytes = 16 << 10
)

// Server serves one page. Run it once.
type Server struct {
	agent    Agent
	stall    time.Duration
	page     page
	listener net.Listener
	hosts    []string // what a request's Host header may say
	token    string
}

// New opens the port. A Server that is not needed must be given to Run with a context that has ended.
func New(cfg Config) (*Server, error) {
	if cfg.Agent == nil {
		return nil, errors.New("ui: no Agent")
	}
	p, err := newPage(pageFile)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d of this machine is in use; choose another with --port", cfg.Port)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the page: %w", err)
	}
	s := &Server{agent: cfg.Agent, stall: cfg.Stall, page: p, listener: netutil.LimitListener(l, maxConnections), token: newToken()}
	if s.stall <= 0 {
		s.stall = defaultStall
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	for _, name := range []string{"127.0.0.1", "localhost", "::1"} {
		s.hosts = append(s.hosts, net.JoinHostPort(name, port))
	}
	return s, nil
}

// newToken returns 256 random bits in letters of a URL.
func newToken() string {
	return rand.Text() + rand.Text() // 130 bits each
}

// URL is the page's address with its token: whoever has it may look.
func (s *Server) URL() string {
	return (&url.URL{Scheme: "http", Host: s.listener.Addr().String(), Path: "/", Fragment: s.token}).String()
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	h := &http.Server{
		Handler:           s.handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // with it the streams end
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout, // bodies are small
		WriteTimeout:      answerTimeout, // put off by streams
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          klog.NewStandardLogger("INFO"),
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(s.listener) }()
	select {
	case err := <-ended:
		h.Close()
		return fmt.Errorf("serve the page: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if h.Shutdown(last) != nil {
		h.Close()
	}
	<-ended
	return nil
}

// handler answers requests that are meant for this page and come from it.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page.serve)
	mux.HandleFunc("GET /events", s.forHolders(s.events))
	mux.HandleFunc("GET /pods", s.forHolders(s.pods))
	mux.HandleFunc("GET /teach", s.forHolders(s.gates))
	mux.HandleFunc("POST /teach", s.forHolders(s.fromThePage(s.teach)))
	if b, ok := s.agent.(*Bundle); ok {
		mux.HandleFunc("GET /bundle", s.forHolders(b.serve))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", s.page.policy)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cache-Control", "no-store")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		if why := s.stranger(r); why != "" {
			turnAway(w, http.StatusForbidden, why)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// stranger says why a request is not one of a browser that shows this page; "" if it may be.
func (s *Server) stranger(r *http.Request) string {
	if !slices.Contains(s.hosts, strings.ToLower(r.Host)) {
		return "The Host header names another machine or port. Open the page under the address that `mini-kubelet ui` has printed."
	}
	for _, origin := range r.Header.Values("Origin") {
		if origin != pageOrigin(r) {
			return "The request comes from a page of another origin."
		}
	}
	return ""
}

// pageOrigin is what a browser calls the origin of a page that it has loaded from where the request goes.
func pageOrigin(r *http.Request) string { return "http://" + strings.ToLower(r.Host) }

// forHolders passes only requests with the token.
func (s *Server) forHolders(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
			turnAway(w, http.StatusUnauthorized, "The token is missing or wrong. Open the page under the address that `mini-kubelet ui` has printed.")
			return
		}
		next(w, r)
	}
}

// turnAway closes the connection as well: who may not look is not to keep one.
func turnAway(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Connection", "close")
	http.Error(w, text, code)
}

// events passes the agent's journal on. What the browser does not read soon enough is not kept for it: it is cut off, and the agent
// goes on after what it has when it comes back.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	journal, err := s.agent.Journal(ctx, r.Header.Get("Last-Event-ID"))
	if err != nil {
		// Not as a status: browsers complain of these in their consoles, and the page asks again and again.
		text, _ := json.Marshal(err.Error()) // of a string, it never fails
		_, _ = fmt.Fprintf(w, "event: away\ndata: %s\n\n", text)
		return
	}
	defer journal.Close()
	rc := http.NewResponseController(w)
	for buffer := make([]byte, 64<<10); ; {
		n, err := journal.Read(buffer)
		if n > 0 {
			if rc.SetWriteDeadline(time.Now().Add(s.stall)) != nil {
				return
			}
			if _, err := w.Write(buffer[:n]); err != nil || rc.Flush() != nil {
				return
			}
		}
		if err != nil {
			return // the agent has ended, or the browser has gone
		}
	}
}

func (s *Server) pods(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w) // whose errors are the browser's connection's
	all, err := s.agent.Pods(r.Context())
	var a answer
	if err == nil {
		a, err = answerWith(all)
	}
	if err != nil {
		_ = out.Encode(map[string]string{"away": err.Error()})
		return
	}
	_ = out.Encode(a)
}
