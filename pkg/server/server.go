package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// Pods lists the pods of this node with their current statuses. It is called
// concurrently; its results must not be changed.
type Pods interface {
	Pods() []*v1.Pod
}

// Config is what a Server is built from.
type Config struct {
	// HealthzListen and ReadOnlyListen are host:port; empty: that port is not served.
	HealthzListen  string
	ReadOnlyListen string

	// NodeName is a name of this machine, which clients on it may use as localhost.
	NodeName string

	// API is the kubelet API, on its own port with TLS; nil: not served.
	API *APIConfig
	// Local is the same on a socket; nil: not served.
	Local *LocalConfig

	Pods    Pods                // needed with ReadOnlyListen, API and Local
	Metrics prometheus.Gatherer // needed with ReadOnlyListen
	Probes  prometheus.Gatherer // the read-only port's /metrics/probes; nil: not served
	// CAdvisor and Resource cost much to read: both ports share what is read for
	// /metrics/cadvisor and /metrics/resource. nil: empty.
	CAdvisor, Resource prometheus.Gatherer
	Usage              Usage   // the read-only port's /stats/summary; nil: not served
	Checks             []Check // what /healthz checks, besides "ping"
	// Registry is where requests are counted; nil: nowhere.
	Registry prometheus.Registerer
	// Traces makes the requests to the kubelet API spans; nil: none is.
	Traces trace.TracerProvider
}

// Server serves the agent's HTTP endpoints.
type Server struct {
	endpoints []*endpoint
}

// Limits of one endpoint. A client that is slow to send or to read is cut off; if
// there are too many, the oldest that do nothing give way (crowd).
const (
	maxConnections = 256
	maxScrapers    = 1024 // maxConnections of the read-only port
	headerTimeout  = 5 * time.Second
	healthTimeout  = time.Second // headerTimeout of the health endpoint: its clients are on this machine
	readTimeout    = 15 * time.Second
	writeTimeout   = time.Minute
	idleTimeout    = 30 * time.Second
	maxHeaderBytes = 64 << 10
	shutdownGrace  = 3 * time.Second
)

// endpoint is one port: a listener and its handler.
type endpoint struct {
	name     string
	listener *crowd
	http     *http.Server
	long     *longRequests // of the kubelet API, else nil
}

// New opens the ports, so that a port in use is found before anything else is
// started. Run closes the listeners; a Server that is not needed must be given to
// Run with a context that has ended.
func New(cfg Config) (*Server, error) {
	if cfg.ReadOnlyListen != "" && (cfg.Pods == nil || cfg.Metrics == nil) {
		return nil, errors.New("server: the read-only port needs Pods and Metrics")
	}
	health, err := newHealth(cfg.Checks)
	if err != nil {
		return nil, err
	}
	counted, err := newRequestMetrics(cfg.Registry)
	if err != nil {
		return nil, err
	}
	pages := newPages(cfg)
	s := &Server{}
	names := ownNames(cfg.NodeName)
	if cfg.HealthzListen != "" {
		mux := http.NewServeMux()
		health.addTo(mux)
		e, err := s.listen("healthz", cfg.HealthzListen, "--healthz-port", maxConnections, forThisMachine(names, mux))
		if err != nil {
			return nil, err
		}
		e.http.ReadHeaderTimeout = healthTimeout
		e.http.SetKeepAlivesEnabled(false)
	}
	if cfg.ReadOnlyListen != "" {
		mux := http.NewServeMux()
		health.addTo(mux)
		mux.Handle("GET /pods", podsHandler(cfg.Pods))
		mux.Handle("GET /metrics", newMetricsPage("/metrics", cfg.Metrics, 0))
		if cfg.Probes != nil {
			mux.Handle("GET /metrics/probes", newMetricsPage("/metrics/probes", cfg.Probes, 0))
		}
		pages.addTo(mux)
		if cfg.Usage != nil {
			addSummary(mux, cfg.Usage)
		}
		if _, err := s.listen("read-only", cfg.ReadOnlyListen, "--read-only-port", maxScrapers, counted.handler("readonly", forThisMachine(names, mux))); err != nil {
			s.close()
			return nil, err
		}
	}
	if cfg.API != nil {
		if err := s.listenAPI(cfg, health, pages, counted); err != nil {
			s.close()
			return nil, err
		}
	}
	if cfg.Local != nil {
		if err := s.listenLocal(context.Background(), cfg, health, pages, counted); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// listen opens one endpoint. The error names the flag if another value would help.
func (s *Server) listen(name, address, flag string, limit int, h http.Handler) (*endpoint, error) {
	l, err := takePort(name, address, flag)
	if err != nil {
		return nil, err
	}
	return s.add(name, l, limit, &http.Server{
		Handler:           withHeaders(h),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          klog.NewStandardLogger("INFO"),
	}), nil
}

// add makes an endpoint of an open port that has at most limit connections.
func (s *Server) add(name string, l net.Listener, limit int, h *http.Server) *endpoint {
	c := newCrowd(l, limit)
	c.silent = h.TLSConfig != nil
	c.watch(h)
	e := &endpoint{name: name, listener: c, http: h}
	s.endpoints = append(s.endpoints, e)
	return e
}

func takePort(name, address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the %s port %s is in use; end what uses it or choose another with %s", name, address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on the %s port: %w", name, err)
	}
	return l, nil
}

// withHeaders tells clients neither to guess the type of an answer nor to cache it.
func withHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// Run serves until ctx ends, then lets requests in progress finish for a moment. It
// returns nil, or the error that ended an endpoint before that.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, len(s.endpoints))
	for _, e := range s.endpoints {
		klog.V(2).InfoS("Serving", "endpoint", e.name, "address", e.listener.Addr())
		go func() {
			err := e.serve()
			if errors.Is(err, http.ErrServerClosed) {
				err = nil
			} else {
				err = fmt.Errorf("serve the %s port: %w", e.name, err)
			}
			ended <- err
		}()
	}
	running := len(s.endpoints)
	var first error
	select {
	case <-ctx.Done():
	case first = <-ended:
		running--
	}
	s.shutdown()
	for ; running > 0; running-- {
		if err := <-ended; first == nil {
			first = err
		}
	}
	return first
}

func (e *endpoint) serve() error {
	if e.http.TLSConfig != nil {
		return e.http.ServeTLS(e.listener, "", "")
	}
	return e.http.Serve(e.listener)
}

// shutdown ends all endpoints at once, first gracefully, then in any case.
func (s *Server) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	done := make(chan struct{}, len(s.endpoints))
	for _, e := range s.endpoints {
		go func() {
			e.long.end()
			if e.http.Shutdown(ctx) != nil {
				e.http.Close()
			}
			e.long.wait()
			done <- struct{}{}
		}()
	}
	for range s.endpoints {
		<-done
	}
	s.close() // for a listener that Serve never took over
}

func (s *Server) close() {
	for _, e := range s.endpoints {
		e.listener.Close()
	}
}
