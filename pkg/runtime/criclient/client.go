// Package criclient is the client of a container runtime: CRI v1 over a Unix
// socket, with a deadline and metrics on every call. It knows nothing of any
// particular runtime. Package kuberuntime and the commands call it.
//
// It speaks gRPC directly, not through k8s.io/cri-client: that one logs every
// failed call itself, whereas here an error is logged once, by whoever gives up on
// it.
package criclient

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/component-base/tracing"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
)

// maxAnswer is as many bytes as gRPC can count: lists hold what pods say of
// themselves, and with a bound a few large pods would break the relist of all. The
// kubelet's bound is 16 MiB, which KEP CRIListStreaming is about. The runtime is
// trusted: its answers may be as long as they are.
const maxAnswer = math.MaxInt32

// Config is what a Client is made of.
type Config struct {
	Endpoint      string        // unix:///path of the runtime service
	ImageEndpoint string        // of the image service; "" is Endpoint
	Timeout       time.Duration // of one call, except those that wait by design; 0 is 2 min
	// Metrics counts operations under the kubelet's names; nil: not counted.
	Metrics prometheus.Registerer
	// Journal notes each call, without what was asked or answered, and the runtime is told which event it is, by
	// crimeta.Because; nil: neither.
	Journal *journal.Journal
	// Gate holds each call of a step of a pod's worker, before its deadline begins; nil: nothing is held.
	Gate *gate.Gate
	// Traces makes each call a span, and tells the runtime of it in the call's metadata
	// (traceparent); nil: neither.
	Traces trace.TracerProvider
}

// Client calls a runtime. Safe for concurrent use.
type Client struct {
	cri.RuntimeServiceClient
	cri.ImageServiceClient
	endpoint string
	conns    []*grpc.ClientConn
}

// New prepares the connections; nothing is dialled before the first call.
func New(cfg Config) (*Client, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.ImageEndpoint == "" {
		cfg.ImageEndpoint = cfg.Endpoint
	}
	calls, err := newCalls(cfg)
	if err != nil {
		return nil, err
	}
	runtime, err := dial(cfg.Endpoint, calls, cfg.Traces)
	if err != nil {
		return nil, err
	}
	c := &Client{endpoint: cfg.Endpoint, conns: []*grpc.ClientConn{runtime}}
	images := runtime
	if cfg.ImageEndpoint != cfg.Endpoint {
		if images, err = dial(cfg.ImageEndpoint, calls, cfg.Traces); err != nil {
			runtime.Close()
			return nil, err
		}
		c.conns = append(c.conns, images)
	}
	c.RuntimeServiceClient = cri.NewRuntimeServiceClient(runtime)
	c.ImageServiceClient = cri.NewImageServiceClient(images)
	return c, nil
}

func dial(endpoint string, calls *calls, traces trace.TracerProvider) (*grpc.ClientConn, error) {
	if !strings.HasPrefix(endpoint, "unix://") || len(endpoint) == len("unix://") {
		return nil, fmt.Errorf("runtime endpoint %q: want unix:///path/to/socket", endpoint)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithUnaryInterceptor(calls.unary),
		// A restarting runtime is back within seconds: try often.
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: 5 * time.Second,
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
		}),
	}
	if traces != nil {
		options = append(options, grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithMessageEvents(otelgrpc.ReceivedEvents, otelgrpc.SentEvents),
			otelgrpc.WithPropagators(tracing.Propagators()), otelgrpc.WithTracerProvider(measuredOnce{traces}))))
	}
	conn, err := grpc.NewClient(endpoint, options...)
	if err != nil {
		return nil, fmt.Errorf("runtime endpoint %s: %w", endpoint, err)
	}
	return conn, nil
}

// Wait returns the runtime's version once it answers, or the last error when ctx ends.
func (c *Client) Wait(ctx context.Context) (*cri.VersionResponse, error) {
	for {
		v, err := c.Version(ctx, &cri.VersionRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return v, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the runtime at %s: %w", c.endpoint, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Close ends the connections.
func (c *Client) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// calls adds deadlines and metrics to calls.
type calls struct {
	timeout  time.Duration
	total    *prometheus.CounterVec
	failed   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	journal  *journal.Journal
	gate     *gate.Gate
	requests *journal.Span  // that clients of the server make
	quiet    journal.Series // by method
}

func newCalls(cfg Config) (*calls, error) {
	label := []string{"operation_type"}
	c := &calls{
		timeout: cfg.Timeout, journal: cfg.Journal, gate: cfg.Gate, requests: cfg.Journal.Root("request"),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_runtime_operations_total", Help: "Cumulative number of runtime operations by operation type."}, label),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_runtime_operations_errors_total", Help: "Cumulative number of runtime operation errors by operation type."}, label),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_runtime_operations_duration_seconds", Help: "Duration in seconds of runtime operations. Broken down by operation type.",
			Buckets: prometheus.ExponentialBuckets(.005, 2.5, 14)}, label),
	}
	if cfg.Metrics == nil {
		return c, nil
	}
	for _, m := range []prometheus.Collector{c.total, c.failed, c.duration} {
		if err := cfg.Metrics.Register(m); err != nil {
			return nil, fmt.Errorf("register runtime metrics: %w", err)
		}
	}
	return c, nil
}

func (c *calls) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := c.pass(ctx, method); err != nil {
		return err
	}
	if limit := deadline(req, c.timeout); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	ctx, m := c.note(ctx, method, req)
	ctx, traced := tracedFrom(ctx, m.Began)
	err := invoke(ctx, method, req, reply, conn, opts...)
	took := c.noteEnd(ctx, m, method, req, reply, err)
	traced.end(m.Began.Add(took))
	op := operation(method)
	c.total.WithLabelValues(op).Inc()
	c.duration.WithLabelValues(op).Observe(took.Seconds())
	if err != nil {
		c.failed.WithLabelValues(op).Inc()
	}
	return err
}

// deadline returns how long a call may take. A pull may take as long as it makes
// progress, which the runtime watches; a stop may take its grace period in
// addition.
func deadline(req any, timeout time.Duration) time.Duration {
	switch r := req.(type) {
	case *cri.PullImageRequest:
		return 0
	case *cri.StopContainerRequest:
		return timeout + time.Duration(r.Timeout)*time.Second
	case *cri.RunPodSandboxRequest:
		return 2 * timeout // network set-up is part of it
	case *cri.ExecSyncRequest:
		if r.Timeout == 0 {
			return 0
		}
		return timeout + time.Duration(r.Timeout)*time.Second
	}
	return timeout
}

// operation returns the kubelet's name of a call:
// "/runtime.v1.RuntimeService/RunPodSandbox" is "run_podsandbox".
func operation(method string) string {
	name := method[strings.LastIndexByte(method, '/')+1:]
	name = strings.Replace(name, "PodSandbox", "Podsandbox", 1)
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
