package credentials

import (
	"crypto/tls"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRequestsAreCounted(t *testing.T) {
	c := counted{newRequests(), roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/away" {
			return nil, errors.New("connection refused")
		}
		return &http.Response{StatusCode: http.StatusCreated}, nil
	})}
	for _, path := range []string{"/a", "/b", "/away"} {
		_, _ = c.RoundTrip(httptest.NewRequest(http.MethodPost, "https://api:6443"+path, nil)) // there is no body to close
	}
	want := `# HELP rest_client_requests_total Number of HTTP requests, partitioned by status code, method, and host.
# TYPE rest_client_requests_total counter
rest_client_requests_total{code="201",host="api:6443",method="POST"} 2
rest_client_requests_total{code="<error>",host="api:6443",method="POST"} 1
`
	if err := testutil.CollectAndCompare(c.total, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(c.took); n != 1 {
		t.Errorf("%d histograms, want 1", n)
	}
}

func TestHowLongACertificateIsValid(t *testing.T) {
	var current *tls.Certificate
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(ttl("client", "certificate", func() *tls.Certificate { return current }))
	value := func() float64 {
		t.Helper()
		all, err := r.Gather()
		if err != nil || len(all) != 1 || all[0].GetName() != "kubelet_certificate_manager_client_ttl_seconds" {
			t.Fatalf("%v, %v", all, err)
		}
		return all[0].Metric[0].Gauge.GetValue()
	}
	if got := value(); !math.IsInf(got, 1) {
		t.Errorf("without a certificate: %v", got)
	}
	current = &tls.Certificate{Certificate: [][]byte{[]byte("cheese")}}
	if got := value(); !math.IsInf(got, 1) {
		t.Errorf("with one that is none: %v", got)
	}
}
