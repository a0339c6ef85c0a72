package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/httpget"
)

// runHTTP succeeds with a status of 200 to 399. A redirection to another host is not
// followed: it is a success with a warning.
func (p *prober) runHTTP(ctx context.Context, a *v1.HTTPGetAction, s subject) (answer, error) {
	req, err := request(ctx, a, s)
	if err != nil {
		return answer{}, err
	}
	client := http.Client{Transport: p.http, CheckRedirect: httpget.SameHost}
	res, err := client.Do(req)
	if err != nil {
		return answer{result: failure, text: err.Error()}, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	switch {
	case err != nil:
		return answer{result: failure, text: err.Error()}, nil
	case res.StatusCode < 200 || res.StatusCode >= 400:
		// Without the body, which anyone who can read events would see.
		return answer{result: failure, text: fmt.Sprintf("HTTP probe failed with statuscode: %d", res.StatusCode)}, nil
	case res.StatusCode >= 300:
		return answer{result: success, warning: true, text: "Probe terminated redirects, Response body: " + string(body)}, nil
	}
	return answer{result: success}, nil
}

// request returns the GET request that a probe asks for.
func request(ctx context.Context, a *v1.HTTPGetAction, s subject) (*http.Request, error) {
	port, err := httpget.Port(a.Port, s.container)
	if err != nil {
		return nil, err
	}
	address, err := addressOf(a.Host, s.host, port)
	if err != nil {
		return nil, err
	}
	return httpget.Request(ctx, a, address, userAgent)
}
