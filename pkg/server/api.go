package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/klog/v2"
)

// Host is what the kubelet API needs from the node. It is called concurrently;
// every call ends soon after its context. An error's gRPC code decides the HTTP
// status: NotFound 404, InvalidArgument 400, ResourceExhausted 429, Unimplemented 501, any other 500
// (400 for logs). A pod is given by name, and also by uid unless that is empty.
type Host interface {
	// RunningPods lists the pods that have something running, as the runtime knows
	// them.
	RunningPods(ctx context.Context) ([]*v1.Pod, error)
	// Logs writes a container's log. A writer is nil if its stream is not wanted.
	// Before it waits for more to follow, it writes to one of them, even if only
	// nothing.
	Logs(ctx context.Context, pod types.NamespacedName, o *v1.PodLogOptions, stdout, stderr io.Writer) error
	// Exec and Attach return the URL at which the runtime serves the streams.
	Exec(ctx context.Context, pod types.NamespacedName, uid types.UID, o *v1.PodExecOptions) (*url.URL, error)
	Attach(ctx context.Context, pod types.NamespacedName, uid types.UID, o *v1.PodAttachOptions) (*url.URL, error)
	// PortForward returns a URL of that kind for connections to the pod.
	PortForward(ctx context.Context, pod types.NamespacedName, uid types.UID, o *v1.PodPortForwardOptions) (*url.URL, error)
	// Run runs a command to its end and returns what it wrote.
	Run(ctx context.Context, pod types.NamespacedName, uid types.UID, container string, cmd []string) ([]byte, error)
	// Checkpoint writes a running container's state to a file of the node and returns its path.
	// timeout 0 is the runtime's own.
	Checkpoint(ctx context.Context, pod types.NamespacedName, container string, timeout time.Duration) (path string, err error)
	Usage
}

// Metrics are the sets of metrics; a nil one is empty.
type Metrics struct {
	Agent  prometheus.Gatherer // /metrics
	Probes prometheus.Gatherer // /metrics/probes
}

// Content is what the kubelet API answers with, to whomever it is served. Everything not marked
// optional is required.
type Content struct {
	Host    Host
	Configz func() any // the KubeletConfiguration in use
	Metrics Metrics    // optional
	Events  Events     // optional
	Journal Journal    // optional
	Gates   Gates      // of teaching mode; optional
	Why     Why        // optional; for the local socket alone
	// Versions is what the agent is and runs on, for VersionsPath, as JSON; nil: not served.
	Versions any
	// Version is that of the kubelet that is replaced, such as v1.37.2, for /statusz; "": neither that nor /flagz is
	// served.
	Version string
	// Flags returns the values of the command line's flags for /flagz, without secrets; nil: not served.
	Flags func() map[string]string
	// LogsDir is what /logs/ shows; empty: /logs/ is off.
	LogsDir string
	// LogQueries answers /logs/?query= with the log of services, from the journal or LogsDir, or a file of
	// LogsDir (KEP-2258).
	LogQueries bool
	// Profiling serves /debug/pprof/.
	Profiling bool
	// SetVerbosity changes how much is logged (PUT /debug/flags/v) and returns what to answer;
	// nil: it cannot be changed.
	SetVerbosity func(level string) (string, error)
	// Debugging is enableDebuggingHandlers: without it everything that reaches into
	// containers is off, as are /logs/, /configz and /debug/pprof/.
	Debugging bool
}

// APIConfig says where, and to whom, the kubelet API is served on the network. Everything not
// marked optional is required.
type APIConfig struct {
	Listen string // host:port
	// TLS has the serving certificate (GetCertificate or Certificates), MinVersion
	// and CipherSuites. It is copied.
	TLS *tls.Config
	// ClientCA is announced to clients, so that they know which certificate to show;
	// Authenticator verifies it. Optional; from NewAuth, like the next three.
	ClientCA      dynamiccertificates.CAContentProvider
	Authenticator authenticator.Request
	Authorizer    authorizer.Authorizer
	Advice        string // optional: for who is forbidden something, what the administrator can do
	NodeName      string // of the node that requests are authorized for
	Content
}

// maxAPIConnections is enough for a full node with several followers of each pod's
// log. Whoever has not been let in keeps nobody out of it (crowd).
const maxAPIConnections = 1024

// listenAPI opens the endpoint of the kubelet API.
func (s *Server) listenAPI(cfg Config, health *health, pages pages, counted *requestMetrics) error {
	c := *cfg.API
	switch {
	case cfg.Pods == nil || c.Host == nil || c.Configz == nil:
		return errors.New("server: the kubelet API needs Pods, Host and Configz")
	case c.Authenticator == nil || c.Authorizer == nil:
		return errors.New("server: the kubelet API needs Authenticator and Authorizer")
	case c.TLS == nil || c.TLS.GetCertificate == nil && len(c.TLS.Certificates) == 0:
		return errors.New("server: the kubelet API needs TLS with a certificate")
	}
	long := newLongRequests()
	mux, err := newAPI(c.Content, cfg.Pods, long, health, pages, counted)
	if err != nil {
		return err
	}
	l, err := takePort("kubelet API", c.Listen, "--port")
	if err != nil {
		return err
	}
	// One request per connection: streams take over connections, and a log that nobody
	// reads must not block other answers.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	e := s.add("kubelet API", l, maxAPIConnections, &http.Server{
		Handler: withHeaders(counted.handler("readwrite", short(&filter{
			authenticator: c.Authenticator, authorizer: c.Authorizer, advice: c.Advice, nodeName: c.NodeName, next: traced(cfg.Traces, mux),
		}))),
		TLSConfig:         servingTLS(c.TLS, c.ClientCA),
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       apiIdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(quietHandshakes{klog.NewStandardLogger("INFO").Writer()}, "", log.Lshortfile),
	})
	e.long = long
	return nil
}

// quietHandshakes logs failed handshakes at level 2 only: anybody on the network can
// fail as many as he likes.
type quietHandshakes struct{ io.Writer }

func (q quietHandshakes) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("http: TLS handshake error")) && !klog.V(2).Enabled() {
		return len(p), nil
	}
	return q.Writer.Write(p)
}

// servingTLS asks clients for a certificate, and names the current CAs. The
// authenticator verifies the certificate: an invalid one counts as none.
func servingTLS(base *tls.Config, ca dynamiccertificates.CAContentProvider) *tls.Config {
	base = base.Clone()
	base.ClientAuth = tls.RequestClientCert
	base.NextProtos = []string{"http/1.1"}
	if ca == nil {
		return base
	}
	serving := base.Clone()
	serving.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		verify, ok := ca.VerifyOptions()
		if !ok {
			return nil, nil
		}
		now := base.Clone()
		now.ClientCAs = verify.Roots
		return now, nil
	}
	return serving
}

// newAPI returns what answers requests that may be answered.
func newAPI(c Content, pods Pods, long *longRequests, health *health, pages pages, counted *requestMetrics) (*http.ServeMux, error) {
	mux := http.NewServeMux()
	health.addTo(mux)
	pages.addTo(mux)
	a := &api{Content: c, pods: pods, long: long, counted: counted}
	a.addTo(mux)
	return mux, a.addZPages(mux)
}

// api answers requests that have passed the filter.
type api struct {
	Content
	pods    Pods
	long    *longRequests
	counted *requestMetrics
}

func (a *api) addTo(mux *http.ServeMux) {
	mux.Handle("GET /pods", podsHandler(a.pods))
	mux.Handle("GET /pods/{$}", podsHandler(a.pods))
	for path, g := range map[string]prometheus.Gatherer{
		"/metrics": a.Metrics.Agent, "/metrics/probes": a.Metrics.Probes,
	} {
		if g == nil {
			g = prometheus.NewRegistry()
		}
		mux.Handle("GET "+path, newMetricsPage(path, g, 0))
	}
	addSummary(mux, a.Host)
	if a.Events != nil {
		mux.HandleFunc("GET "+EventsPath, a.events)
	}
	if a.Journal != nil {
		mux.HandleFunc("GET "+JournalPath, a.journal)
		mux.HandleFunc("GET "+DecisionsPath, a.decisions)
	}
	if a.Versions != nil {
		mux.HandleFunc("GET "+VersionsPath, func(w http.ResponseWriter, r *http.Request) { writeJSON(w, r, a.Versions) })
	}
	if a.Gates != nil {
		mux.HandleFunc("GET "+TeachPath, a.teach)
		mux.HandleFunc("POST "+TeachPath, a.teach)
	}
	if a.Why != nil {
		mux.HandleFunc("GET "+WhyPath, a.why)
	}
	mux.Handle("POST /checkpoint/{namespace}/{pod}/{container}", a.long.handler(a.checkpoint))
	if !a.Debugging {
		for _, path := range []string{
			"/run/", "/exec/", "/attach/", "/portForward/", "/containerLogs/", "/runningpods/", "/logs/", "/debug/pprof/", "/debug/flags/v",
		} {
			mux.Handle(path, disabled("Debug endpoints are disabled."))
		}
		return
	}
	for _, method := range []string{"GET", "POST"} {
		for _, container := range []string{"/{namespace}/{pod}/{container}", "/{namespace}/{pod}/{uid}/{container}"} {
			mux.Handle(method+" /exec"+container, a.long.handler(a.exec))
			mux.Handle(method+" /attach"+container, a.long.handler(a.attach))
		}
		for _, pod := range []string{"/{namespace}/{pod}", "/{namespace}/{pod}/{uid}"} {
			mux.Handle(method+" /portForward"+pod, a.long.handler(a.portForward))
		}
	}
	mux.Handle("POST /run/{namespace}/{pod}/{container}", a.long.handler(a.run))
	mux.Handle("POST /run/{namespace}/{pod}/{uid}/{container}", a.long.handler(a.run))
	mux.Handle("GET /containerLogs/{namespace}/{pod}/{container}", a.long.handler(a.containerLogs))
	mux.HandleFunc("GET /runningpods", a.runningPods)
	mux.HandleFunc("GET /runningpods/{$}", a.runningPods)
	mux.HandleFunc("GET /configz", a.configz)
	a.addDebug(mux)
}

func disabled(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, text, http.StatusMethodNotAllowed)
	})
}

func (a *api) runningPods(w http.ResponseWriter, r *http.Request) {
	pods, err := a.Host.RunningPods(r.Context())
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	writePods(w, r, pods)
}

func (a *api) configz(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, map[string]any{"kubeletconfig": a.Configz()})
}

// run runs a command whose words are separated by spaces: /run is older than exec.
func (a *api) run(w http.ResponseWriter, r *http.Request) {
	pod, uid := podOf(r)
	out, err := a.Host.Run(r.Context(), pod, uid, r.PathValue("container"), strings.Split(r.FormValue("cmd"), " "))
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	say(w, http.StatusOK, string(out))
}

// checkpoint answers POST /checkpoint/, ?timeout in seconds (KEP-2008). A runtime that cannot do it
// is answered with 501 and its reason.
func (a *api) checkpoint(w http.ResponseWriter, r *http.Request) {
	pod, _ := podOf(r)
	seconds := uint64(0)
	if text := r.URL.Query().Get("timeout"); text != "" {
		var err error
		if seconds, err = strconv.ParseUint(text, 10, 31); err != nil {
			say(w, http.StatusBadRequest, "cannot parse value of timeout parameter")
			return
		}
	}
	path, err := a.Host.Checkpoint(r.Context(), pod, r.PathValue("container"), time.Duration(seconds)*time.Second)
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	writeJSON(w, r, map[string][]string{"items": {path}})
}

// podOf is the pod that a path names; the uid may be empty.
func podOf(r *http.Request) (types.NamespacedName, types.UID) {
	return types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("pod")}, types.UID(r.PathValue("uid"))
}

func writeJSON(w http.ResponseWriter, r *http.Request, what any) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return
	}
	// The encoder writes only after everything is encoded, so its failure leaves no
	// partial answer; later failures are the client's connection.
	if err := json.NewEncoder(w).Encode(what); err != nil {
		klog.V(4).InfoS("Client did not read the answer", "path", r.URL.Path, "err", err, "client", r.RemoteAddr)
	}
}
