package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestRequestsAreCountedByFewLabels(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	m, err := newRequestMetrics(r)
	if err != nil {
		t.Fatal(err)
	}
	h := m.handler("readwrite", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		m.stream("exec", r)
	}))
	ask := func(method, path string, headers ...string) {
		q := httptest.NewRequest(method, path, nil)
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			q.Header.Set(name, value)
		}
		h.ServeHTTP(httptest.NewRecorder(), q)
	}
	ask("GET", "/metrics")
	ask("GET", "/metrics/cadvisor")
	ask("POST", "/exec/default/web/c")
	ask("GET", "/exec/default/web/c", "Connection: Upgrade", "Upgrade: websocket")
	ask("GET", "/portForward/default/web")
	ask("BREW", "/coffee/"+strings.Repeat("x", 1000))
	ask("GET", "/metrics/made/up")
	err = testutil.GatherAndCompare(r, strings.NewReader(`
# HELP kubelet_http_requests_total How many HTTP requests came in
# TYPE kubelet_http_requests_total counter
kubelet_http_requests_total{long_running="false",method="GET",path="metrics",server_type="readwrite"} 1
kubelet_http_requests_total{long_running="false",method="GET",path="metrics/cadvisor",server_type="readwrite"} 1
kubelet_http_requests_total{long_running="false",method="GET",path="other",server_type="readwrite"} 1
kubelet_http_requests_total{long_running="false",method="other",path="other",server_type="readwrite"} 1
kubelet_http_requests_total{long_running="true",method="GET",path="exec",server_type="readwrite"} 1
kubelet_http_requests_total{long_running="true",method="GET",path="portForward",server_type="readwrite"} 1
kubelet_http_requests_total{long_running="true",method="POST",path="exec",server_type="readwrite"} 1
# HELP kubelet_websocket_streaming_requests_total How many times a container was connected to through a WebSocket
# TYPE kubelet_websocket_streaming_requests_total counter
kubelet_websocket_streaming_requests_total{subresource="exec"} 1
`), "kubelet_http_requests_total", "kubelet_websocket_streaming_requests_total")
	if err != nil {
		t.Error(err)
	}
}
