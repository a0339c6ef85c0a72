package credentials

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// transports sends each request with the client certificate that is current when
// the request starts. A new certificate means a new set of connections; the old
// ones are left to the requests still in progress, and close when there are none.
type transports struct {
	base   *tls.Config
	proxy  func(*http.Request) (*url.URL, error)
	holder *holder

	mu      sync.Mutex
	cert    *tls.Certificate
	current *http.Transport
}

var errNoCertificate = errors.New("the node has no client certificate yet: its request waits to be approved and signed")

// newTransport makes a transport to the API server that cfg names. cfg has no
// credentials of its own.
func newTransport(cfg *rest.Config, h *holder) (http.RoundTripper, error) {
	tc, err := cfg.TransportConfig()
	if err != nil {
		return nil, err
	}
	base, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, fmt.Errorf("TLS to the API server: %w", err)
	}
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	proxy := cfg.Proxy // the kubeconfig's proxy-url
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return &transports{base: base, proxy: proxy, holder: h}, nil
}

// RoundTrip waits for the first certificate as long as the request's context
// permits, but at most firstWait.
func (t *transports) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.await(r.Context()); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	return t.now().RoundTrip(r)
}

// firstWait bounds how long a request waits for the node's first certificate.
const firstWait = 30 * time.Second

func (t *transports) await(ctx context.Context) error {
	select {
	case <-t.holder.usable:
		return nil
	default:
	}
	timer := time.NewTimer(firstWait)
	defer timer.Stop()
	select {
	case <-t.holder.usable:
		return nil
	case <-ctx.Done():
		return errors.Join(errNoCertificate, context.Cause(ctx))
	case <-timer.C:
		return errNoCertificate
	}
}

// now returns the transport of the current certificate.
func (t *transports) now() *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	cert := t.holder.Current() // under the lock: no request goes back to the previous certificate
	if t.current != nil && t.cert == cert {
		return t.current
	}
	if t.current != nil {
		t.current.CloseIdleConnections()
	}
	cfg := t.base.Clone()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	t.cert, t.current = cert, utilnet.SetTransportDefaults(&http.Transport{
		Proxy: t.proxy, DialContext: dialer.DialContext, TLSClientConfig: cfg,
		TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 25, IdleConnTimeout: 90 * time.Second,
	})
	return t.current
}

// CloseIdleConnections is called by client-go.
func (t *transports) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		t.current.CloseIdleConnections()
	}
}
