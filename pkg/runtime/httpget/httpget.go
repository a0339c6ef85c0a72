// Package httpget makes the request that an httpGet in a pod's spec asks for, in
// the same way for probes and for lifecycle hooks, as the kubelet does. It sends
// nothing.
package httpget

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxRedirects is how many redirects are followed: http.Client's own limit.
const maxRedirects = 10

// Request returns the GET request to address, which is host:port. The action's
// headers override the usual ones: an empty Accept sends none, and Host sets the
// request's host.
func Request(ctx context.Context, a *v1.HTTPGetAction, address, userAgent string) (*http.Request, error) {
	u, err := url.Parse(a.Path)
	if err != nil || u.Opaque != "" {
		// Not a URL's path, but the server may understand it. An opaque URL such as x:y
		// would lack the address, and the host would send the request to itself.
		u = &url.URL{Path: a.Path}
	}
	u.Scheme, u.Host = "http", address
	if a.Scheme != "" {
		u.Scheme = strings.ToLower(string(a.Scheme))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range a.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	if _, set := req.Header["User-Agent"]; !set {
		req.Header.Set("User-Agent", userAgent)
	}
	if accept, set := req.Header["Accept"]; !set {
		req.Header.Set("Accept", "*/*")
	} else if accept[0] == "" {
		req.Header.Del("Accept")
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	return req, nil
}

// SameHost, as a client's CheckRedirect, follows redirects within the first
// request's host; a redirect to another host is returned as the response.
func SameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// Port returns the number of a port that may be given by its name in the container.
func Port(p intstr.IntOrString, c *v1.Container) (int, error) {
	port := p.IntValue()
	if p.Type == intstr.String {
		port = 0
		for _, named := range c.Ports {
			if named.Name == p.StrVal {
				port = int(named.ContainerPort)
				break
			}
		}
		if port == 0 {
			var err error
			if port, err = strconv.Atoi(p.StrVal); err != nil {
				return 0, fmt.Errorf("container %s has no port named %q", c.Name, p.StrVal)
			}
		}
	}
	if port < 1 || port > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", port)
	}
	return port, nil
}
