package server

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// requestMetrics count what is asked of the two ports, whoever asks and whether he may.
type requestMetrics struct {
	total, streams *prometheus.CounterVec
	took           *prometheus.HistogramVec
	running        *prometheus.GaugeVec
}

func newRequestMetrics(r prometheus.Registerer) (*requestMetrics, error) {
	set := metricset.New(r)
	labels := []string{"method", "path", "server_type", "long_running"}
	m := &requestMetrics{
		total:   set.Counters("kubelet_http_requests_total", "How many HTTP requests came in", labels...),
		took:    set.Histograms("kubelet_http_requests_duration_seconds", "How long HTTP requests took", nil, labels...),
		running: set.Gauges("kubelet_http_inflight_requests", "How many HTTP requests are being answered", labels...),
		streams: set.Counters("kubelet_websocket_streaming_requests_total", "How many times a container was connected to through a WebSocket", "subresource"),
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return m, nil
}

// handler counts the requests that next answers on a port of that type.
func (m *requestMetrics) handler(serverType string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := pathClass(r.URL.Path)
		labels := []string{methodClass(r.Method), path, serverType, strconv.FormatBool(isLong(path))}
		m.total.WithLabelValues(labels...).Inc()
		running := m.running.WithLabelValues(labels...)
		running.Inc()
		began := time.Now()
		defer func() {
			running.Dec()
			m.took.WithLabelValues(labels...).Observe(time.Since(began).Seconds())
		}()
		next.ServeHTTP(w, r)
	})
}

// stream counts a connection to a container, if it is a WebSocket.
func (m *requestMetrics) stream(subresource string, r *http.Request) {
	if wsstream.IsWebSocketRequest(r) {
		m.streams.WithLabelValues(subresource).Inc()
	}
}

// methodClass bounds the methods that are told apart, pathClass the paths.
func methodClass(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "other"
}

// roots are the paths that are served, by their first element.
var roots = []string{
	"healthz", "pods", "stats", "metrics", "metrics/cadvisor", "metrics/probes", "metrics/resource", "metrics/slis", "checkpoint", "run", "exec", "attach",
	"portForward", "containerLogs", "configz", "runningpods", "logs", "debug", "statusz", "flagz",
}

func pathClass(path string) string {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if second, _, _ := strings.Cut(rest, "/"); first == "metrics" && second != "" {
		first += "/" + second
	}
	if slices.Contains(roots, first) {
		return first
	}
	return "other"
}

// isLong reports whether requests of that class last as long as their clients want. (The kubelet means to count
// port-forwarding among them, and misses it by a capital letter.)
func isLong(class string) bool {
	return class == "exec" || class == "attach" || class == "portForward" || class == "debug"
}
