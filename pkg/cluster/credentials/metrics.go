package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requests counts what is asked of the API server, under client-go's names. Nothing is known
// but to those who have been given it: client-go's own hooks are global.
type requests struct {
	total *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

func newRequests() *requests {
	return &requests{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_requests_total", Help: "Number of HTTP requests, partitioned by status code, method, and host.",
		}, []string{"code", "method", "host"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rest_client_request_duration_seconds", Help: "Request latency in seconds. Broken down by verb, and host.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0},
		}, []string{"verb", "host"}),
	}
}

// register makes all of them known, with what is said of the client certificate.
func (c *Client) register(r prometheus.Registerer) error {
	for _, one := range []prometheus.Collector{
		c.requests.total, c.requests.took, c.renewErrors,
		ttl("client", "client certificate. The value is in seconds until certificate expiry (negative if already expired)", c.certificate),
	} {
		if err := r.Register(one); err != nil {
			return fmt.Errorf("register the metrics of the API client: %w", err)
		}
	}
	return nil
}

// certificate is the one that is used now, nil if there is none.
func (c *Client) certificate() *tls.Certificate {
	if c.holder != nil {
		return c.holder.Current()
	}
	return c.fixed
}

// counted counts the requests that pass it.
type counted struct {
	*requests
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper. A watch takes until its answer begins.
func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := c.next.RoundTrip(r)
	code := "<error>"
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	c.total.WithLabelValues(code, r.Method, r.URL.Host).Inc()
	c.took.WithLabelValues(r.Method, r.URL.Host).Observe(time.Since(began).Seconds())
	return resp, err
}

// ttl is a gauge of how long a certificate is still valid.
func ttl(whose, help string, current func() *tls.Certificate) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kubelet_certificate_manager_" + whose + "_ttl_seconds",
		Help: "Gauge of the TTL (time-to-live) of the Kubelet's " + help + ". If there is none, the value will be +INF.",
	}, func() float64 {
		c := current()
		if c == nil || len(c.Certificate) == 0 {
			return math.Inf(1)
		}
		leaf := c.Leaf
		if leaf == nil {
			var err error
			if leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
				return math.Inf(1)
			}
		}
		return time.Until(leaf.NotAfter).Seconds()
	})
}

func renewErrors(name string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "Counter of certificate renewal errors."})
}
