package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// host is a Host that records what it was asked.
type host struct {
	mu    sync.Mutex
	calls []string
	err   error
	// url answers Exec, Attach and PortForward; logs answers Logs.
	url  *url.URL
	logs func(ctx context.Context, o *v1.PodLogOptions, stdout, stderr io.Writer) error
}

func (h *host) called(format string, args ...any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, fmt.Sprintf(format, args...))
	return h.err
}

func (h *host) RunningPods(context.Context) ([]*v1.Pod, error) {
	return []*v1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "running"}}}, h.called("running")
}

func (h *host) Logs(ctx context.Context, pod types.NamespacedName, o *v1.PodLogOptions, stdout, stderr io.Writer) error {
	if err := h.called("logs %s %s", pod, o.Container); err != nil || h.logs == nil {
		return err
	}
	return h.logs(ctx, o, stdout, stderr)
}

func (h *host) Exec(_ context.Context, pod types.NamespacedName, uid types.UID, o *v1.PodExecOptions) (*url.URL, error) {
	return h.url, h.called("exec %s %s %s %q %t%t%t%t", pod, uid, o.Container, o.Command, o.Stdin, o.Stdout, o.Stderr, o.TTY)
}

func (h *host) Attach(_ context.Context, pod types.NamespacedName, uid types.UID, o *v1.PodAttachOptions) (*url.URL, error) {
	return h.url, h.called("attach %s %s %s %t%t%t%t", pod, uid, o.Container, o.Stdin, o.Stdout, o.Stderr, o.TTY)
}

func (h *host) PortForward(_ context.Context, pod types.NamespacedName, uid types.UID, o *v1.PodPortForwardOptions) (*url.URL, error) {
	return h.url, h.called("forward %s %s %v", pod, uid, o.Ports)
}

func (h *host) Run(_ context.Context, pod types.NamespacedName, uid types.UID, container string, cmd []string) ([]byte, error) {
	return []byte("out"), h.called("run %s %s %s %q", pod, uid, container, cmd)
}

func (h *host) Checkpoint(_ context.Context, pod types.NamespacedName, container string, timeout time.Duration) (string, error) {
	return "/kept.tar", h.called("checkpoint %s %s %v", pod, container, timeout)
}

func (h *host) Summary(_ context.Context, only bool) (*stats.Summary, error) {
	return &stats.Summary{Node: stats.NodeStats{NodeName: "n1"}}, h.called("summary %t", only)
}

func (h *host) asked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

var (
	alice = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: &user.DefaultInfo{Name: "alice"}}, true, nil
	})
	nobody = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) { return nil, false, nil })
	never  = authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		return authorizer.DecisionNoOpinion, "", nil
	})
	broken = authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		return authorizer.DecisionNoOpinion, "", errors.New("secret detail")
	})
	always = authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		return authorizer.DecisionAllow, "", nil
	})
)

// startAPI serves the kubelet API of h. What the test does not set permits
// everything.
func startAPI(t *testing.T, h Host, change func(*APIConfig)) (base string, client *http.Client) {
	t.Helper()
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	c := APIConfig{
		Listen: "127.0.0.1:0", TLS: &tls.Config{Certificates: certs.TLS.Certificates},
		Authenticator: alice, Authorizer: always, NodeName: "n1",
		Content: Content{Host: h, Configz: func() any { return map[string]int{"maxPods": 110} }, Debugging: true, Profiling: true},
	}
	if change != nil {
		change(&c)
	}
	s, err := New(Config{API: &c, Pods: podList{{ObjectMeta: metav1.ObjectMeta{Name: "wanted"}}}})
	if err != nil {
		t.Fatal(err)
	}
	transport := certs.Client().Transport.(*http.Transport).Clone()
	patient(s)
	testrun.Start(t, s.Run)
	t.Cleanup(transport.CloseIdleConnections)
	return "https://" + s.endpoints[0].listener.Addr().String(), &http.Client{Transport: transport}
}

func ask(t *testing.T, c *http.Client, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
