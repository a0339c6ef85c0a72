package streaming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/docker/docker/client"
	"github.com/go-logr/logr"
	"golang.org/x/sync/semaphore"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// Config is what a Server is built from.
type Config struct {
	Docker *client.Client
	// Address is the host:port to listen on; 127.0.0.1:0, a free port. Whoever can reach it
	// and knows a URL may use the URL once within a minute.
	Address string
	// IdleTimeout closes a connection without traffic; 4 h.
	IdleTimeout time.Duration
	// CreationTimeout is how long a client may take to open its streams; 30 s.
	CreationTimeout time.Duration
	// DialTimeout is how long a server in a pod may take to accept a connection; 10 s.
	DialTimeout time.Duration
	// Observe hears of each stream, from its begin to its end, and never of what flows through it; nil: nobody does.
	Observe docker.Observer
}

// Server serves streams. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	docker   *client.Client
	listener net.Listener
	host     string // of URLs
	tokens   tokens
	forwards forwards
	large    *semaphore.Weighted // commands with much output, see maxLarge
	// The constants of these names, except in tests.
	leaveWithin, reportWithin, killWithin time.Duration
}

// New listens on the address, so that URLs are complete at once; Run serves them.
func New(cfg Config) (*Server, error) {
	if cfg.Docker == nil {
		return nil, errors.New("streaming: Docker is required")
	}
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = 4 * time.Hour
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = 10 * time.Second
	}
	if cfg.CreationTimeout <= 0 {
		cfg.CreationTimeout = remotecommand.DefaultStreamCreationTimeout
	}
	listener, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for streams: %w", err)
	}
	addr := listener.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() { // the client is on this node
		addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: addr.Port}
	}
	return &Server{
		cfg: cfg, docker: cfg.Docker, listener: listener, host: addr.String(),
		large: semaphore.NewWeighted(maxLarge), leaveWithin: leaveWithin, reportWithin: reportWithin, killWithin: killWithin,
	}, nil
}

// Run serves until ctx ends, then closes all connections and returns nil. It must be called
// only once.
func (s *Server) Run(ctx context.Context) error {
	open := &connections{Listener: s.listener, sessions: map[*conn]struct{}{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{token}", s.serveExec)
	mux.HandleFunc("/attach/{token}", s.serveAttach)
	mux.HandleFunc("/portforward/{token}", s.servePortForward)
	server := &http.Server{
		Handler:           quiet(once(mux)),
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHeader,
		IdleTimeout:       headerTimeout,
		ConnContext:       open.context,
		ConnState:         open.state,
	}
	stop := context.AfterFunc(ctx, func() {
		server.Close()
		open.closeAll() // the HTTP server does not close upgraded ones
	})
	defer stop()
	err := server.Serve(open)
	open.closeAll()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve streams: %w", err)
}

// Close stops listening. It is for a server that is never run.
func (s *Server) Close() error { return s.listener.Close() }

// Exec prepares a URL at which the command runs once, when it is visited.
func (s *Server) Exec(ctx context.Context, req *cri.ExecRequest) (*cri.ExecResponse, error) {
	if err := checkStreams(req.GetContainerId(), req.GetTty(), req.GetStdin(), req.GetStdout(), req.GetStderr()); err != nil {
		return nil, err
	}
	if len(req.GetCmd()) == 0 {
		return nil, invalid("cmd is required")
	}
	if err := s.requireRunning(ctx, "container", req.GetContainerId()); err != nil {
		return nil, err
	}
	u, err := s.url(ctx, "exec", req)
	if err != nil {
		return nil, err
	}
	return &cri.ExecResponse{Url: u}, nil
}

// Attach prepares a URL that attaches once to the container's main process.
func (s *Server) Attach(ctx context.Context, req *cri.AttachRequest) (*cri.AttachResponse, error) {
	if err := checkStreams(req.GetContainerId(), req.GetTty(), req.GetStdin(), req.GetStdout(), req.GetStderr()); err != nil {
		return nil, err
	}
	if err := s.requireRunning(ctx, "container", req.GetContainerId()); err != nil {
		return nil, err
	}
	u, err := s.url(ctx, "attach", req)
	if err != nil {
		return nil, err
	}
	return &cri.AttachResponse{Url: u}, nil
}

// PortForward prepares a URL over which any number of connections can be forwarded to ports of
// the sandbox.
func (s *Server) PortForward(ctx context.Context, req *cri.PortForwardRequest) (*cri.PortForwardResponse, error) {
	if req.GetPodSandboxId() == "" {
		return nil, invalid("pod_sandbox_id is required")
	}
	for _, port := range req.GetPort() {
		if port < 1 || port > 65535 {
			return nil, invalid("port %d is not between 1 and 65535", port)
		}
	}
	if err := s.requireRunning(ctx, "sandbox", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	u, err := s.url(ctx, "portforward", req)
	if err != nil {
		return nil, err
	}
	return &cri.PortForwardResponse{Url: u}, nil
}

func checkStreams(containerID string, tty, stdin, stdout, stderr bool) error {
	switch {
	case containerID == "":
		return invalid("container_id is required")
	case tty && stderr:
		return invalid("tty and stderr exclude each other: a terminal has one output")
	case !stdin && !stdout && !stderr:
		return invalid("one of stdin, stdout and stderr is required")
	}
	return nil
}

// url returns a complete URL: clients assume HTTPS when there is no scheme.
func (s *Server) url(ctx context.Context, method string, req any) (string, error) {
	token, err := s.tokens.put(asked{req, crimeta.CauseOf(ctx)}, time.Now())
	if err != nil {
		return "", err
	}
	return (&url.URL{Scheme: "http", Host: s.host, Path: "/" + method + "/" + token}).String(), nil
}

func (s *Server) requireRunning(ctx context.Context, what, id string) error {
	info, err := s.docker.ContainerInspect(ctx, id)
	if err != nil {
		return dockerError(err, "inspect %s %s", what, id)
	}
	if info.State == nil || !info.State.Running {
		return notRunning(what, id)
	}
	return nil
}

// requested returns the request that the URL stands for, or answers NotFound. What is done with the visit's context has the
// cause that the request had.
func requested[T any](s *Server, w http.ResponseWriter, r *http.Request) (req T, visit *http.Request, ok bool) {
	before := s.tokens.take(r.PathValue("token"), time.Now())
	req, ok = before.req.(T)
	if !ok {
		http.Error(w, "no such stream: a URL works once and for a minute", http.StatusNotFound)
		return req, r, false
	}
	if !admit(r.Context()) {
		http.Error(w, fmt.Sprintf("%d streams are open, which is the most", maxSessions), http.StatusServiceUnavailable)
		return req, r, false
	}
	w.Header().Del("Connection")
	return req, r.WithContext(crimeta.CausedBy(r.Context(), before.cause)), true
}

// once makes an answer end the connection, unless a handler changes its mind: a URL works once,
// and whoever has none is not to keep a connection.
func once(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		next.ServeHTTP(w, r)
	})
}

// quiet keeps the WebSocket library from logging an error whenever a session ends.
func quiet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !klog.V(4).Enabled() {
			r = r.WithContext(klog.NewContext(r.Context(), logr.Discard()))
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) serveExec(w http.ResponseWriter, r *http.Request) {
	req, r, ok := requested[*cri.ExecRequest](s, w, r)
	if !ok {
		return
	}
	klog.V(4).InfoS("Exec", "containerID", req.ContainerId)
	opts := &remotecommand.Options{Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr, TTY: req.Tty}
	session := &session{server: s, opts: opts, run: func(ctx context.Context, io stdio) error {
		return s.exec(ctx, req.ContainerId, req.Cmd, io)
	}}
	session.serve(w, r)
}

func (s *Server) serveAttach(w http.ResponseWriter, r *http.Request) {
	req, r, ok := requested[*cri.AttachRequest](s, w, r)
	if !ok {
		return
	}
	klog.V(4).InfoS("Attach", "containerID", req.ContainerId)
	opts := &remotecommand.Options{Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr, TTY: req.Tty}
	session := &session{server: s, opts: opts, run: func(ctx context.Context, io stdio) error {
		return s.attach(ctx, req.ContainerId, io)
	}}
	session.serve(w, r)
}
