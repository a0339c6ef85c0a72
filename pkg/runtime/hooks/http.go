package hooks

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/httpget"
)

const (
	userAgent = "kube-lifecycle/1.37"
	maxBody   = 10 << 10 // bytes of a response that are read, and dropped
	maxHeader = 1 << 20  // bytes before its body, as for a probe
)

// newClient returns a client like the kubelet's for hooks: it verifies no
// certificate, uses no proxy, and does not follow a redirect to another host, but
// returns it as the response.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, // #nosec G402: pods have no certificates that a node could verify
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: httpget.SameHost,
	}
}

// get sends the request of a hook. Any response is a success, whatever its code. A
// server that answers HTTPS with plain HTTP is asked again in plain HTTP, without
// credentials (the kubelet's fallback since ConsistentHTTPGetHandlers).
func (r *Runner) get(ctx context.Context, t Target, a *v1.HTTPGetAction) error {
	req, err := request(ctx, t, a)
	if err != nil {
		return err
	}
	err = r.send(req)
	if err == nil || !strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return err
	}
	plain := req.Clone(ctx)
	plain.URL.Scheme = "http"
	plain.Header.Del("Authorization")
	if r.send(plain) != nil {
		return err
	}
	r.fallbacks.Inc()
	if t.Warn != nil {
		t.Warn("LifecycleHTTPFallback", fmt.Sprintf("request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP succeeded", plain.URL.Host))
	}
	return nil
}

func (r *Runner) send(req *http.Request) error {
	answer, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxBody) // only so that the server can finish writing
	return nil
}

func request(ctx context.Context, t Target, a *v1.HTTPGetAction) (*http.Request, error) {
	host := a.Host
	if host == "" {
		var err error
		if host, err = t.Host(ctx); err != nil {
			return nil, err
		}
	}
	port, err := httpget.Port(a.Port, t.Container)
	if err != nil {
		return nil, err
	}
	return httpget.Request(ctx, a, net.JoinHostPort(host, strconv.Itoa(port)), userAgent)
}
