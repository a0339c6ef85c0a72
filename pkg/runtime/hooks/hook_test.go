package hooks

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// execs answers with its fields and keeps what it was asked.
type execs struct {
	answer *cri.ExecSyncResponse
	err    error
	asked  *cri.ExecSyncRequest
	limits metadata.MD // of the output, among others
}

func (e *execs) ExecSync(ctx context.Context, r *cri.ExecSyncRequest, _ ...grpc.CallOption) (*cri.ExecSyncResponse, error) {
	e.asked = r
	e.limits, _ = metadata.FromOutgoingContext(ctx)
	return e.answer, e.err
}

func TestCommand(t *testing.T) {
	for name, tc := range map[string]struct {
		execs execs
		want  string
	}{
		"succeeds":      {execs{answer: &cri.ExecSyncResponse{Stdout: []byte("x")}}, ""},
		"fails":         {execs{answer: &cri.ExecSyncResponse{ExitCode: 3, Stdout: []byte("out"), Stderr: []byte("err")}}, `exec lifecycle hook (do it): exited with 3: "outerr"`},
		"cannot be run": {execs{err: errors.New("no such container")}, "exec lifecycle hook (do it): no such container"},
		"says much":     {execs{answer: &cri.ExecSyncResponse{ExitCode: 1, Stdout: []byte(strings.Repeat("a", 5000) + "end")}}, `exec lifecycle hook (do it): exited with 1: "` + strings.Repeat("a", maxOutput-3) + `end"`},
	} {
		err := newRunner(t, &tc.execs).Run(t.Context(), Target{ContainerID: "id"}, &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"do", "it"}}})
		if got := text(err); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		if a := tc.execs.asked; a.ContainerId != "id" || strings.Join(a.Cmd, " ") != "do it" || a.Timeout != 0 {
			t.Errorf("%s: asked %v", name, a)
		}
		if len(tc.execs.limits) > 0 { // of output the end would be missing
			t.Errorf("%s: asked for less: %v", name, tc.execs.limits)
		}
	}
}

func newRunner(t *testing.T, e Exec) *Runner {
	t.Helper()
	r, err := New(Config{Exec: e})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestHandlersThatCannotBeRun(t *testing.T) {
	for name, h := range map[string]*v1.LifecycleHandler{
		"tcpSocket": {TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(1)}},
		"none":      {},
	} {
		if err := newRunner(t, nil).Run(t.Context(), Target{}, h); err == nil || !strings.HasPrefix(err.Error(), "cannot run handler") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 5}}
		begun := time.Now()
		if err := newRunner(t, nil).Run(t.Context(), Target{}, h); err != nil || time.Since(begun) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		begun = time.Now()
		if err := newRunner(t, nil).Run(ctx, Target{}, h); err == nil || time.Since(begun) != 2*time.Second {
			t.Errorf("ended early: %v after %v", err, time.Since(begun))
		}
	})
}

// serve starts a server and returns its host and port.
func serve(t *testing.T, s *httptest.Server) (string, int32) {
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	return host, int32(n)
}

func at(host string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return host, nil }
}

func TestRequest(t *testing.T) {
	var got *http.Request
	host, port := serve(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.WriteHeader(http.StatusInternalServerError) // no failure of a hook
	})))
	a := &v1.HTTPGetAction{
		Path: "/stop?now=1", Port: intstr.FromString("web"),
		HTTPHeaders: []v1.HTTPHeader{{Name: "Host", Value: "me.example"}, {Name: "X-A", Value: "1"}, {Name: "X-A", Value: "2"}, {Name: "Accept", Value: ""}},
	}
	target := Target{Host: at(host), Container: &v1.Container{Ports: []v1.ContainerPort{{Name: "other", ContainerPort: 1}, {Name: "web", ContainerPort: port}}}}
	if err := newRunner(t, nil).Run(t.Context(), target, &v1.LifecycleHandler{HTTPGet: a}); err != nil {
		t.Fatal(err)
	}
	if got.RequestURI != "/stop?now=1" || got.Host != "me.example" || strings.Join(got.Header["X-A"], ",") != "1,2" {
		t.Errorf("got %s of %s with %v", got.RequestURI, got.Host, got.Header)
	}
	if _, set := got.Header["Accept"]; set || got.UserAgent() != "kube-lifecycle/1.37" {
		t.Errorf("headers %v", got.Header)
	}
	a = &v1.HTTPGetAction{Host: host, Port: intstr.FromInt32(port)}
	if err := newRunner(t, nil).Run(t.Context(), Target{}, &v1.LifecycleHandler{HTTPGet: a}); err != nil {
		t.Fatal(err)
	}
	if got.Header.Get("Accept") != "*/*" {
		t.Errorf("headers %v", got.Header)
	}
}

func TestRequestThatFails(t *testing.T) {
	lost := func(context.Context) (string, error) { return "", errors.New("the pod has no address") }
	closed := httptest.NewServer(nil)
	host, port := serve(t, closed)
	closed.Close()
	_, verbose := serve(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
	})))
	for name, tc := range map[string]struct {
		target Target
		a      v1.HTTPGetAction
		want   string
	}{
		"no address":    {Target{Host: lost}, v1.HTTPGetAction{Port: intstr.FromInt32(80)}, "the pod has no address"},
		"unknown port":  {Target{Host: at(host), Container: &v1.Container{Name: "c"}}, v1.HTTPGetAction{Port: intstr.FromString("web")}, `container c has no port named "web"`},
		"nobody there":  {Target{Host: at(host)}, v1.HTTPGetAction{Port: intstr.FromInt32(port)}, "connection refused"},
		"says too much": {Target{Host: at(host)}, v1.HTTPGetAction{Port: intstr.FromInt32(verbose)}, "headers exceeded"},
	} {
		if err := newRunner(t, nil).Run(t.Context(), tc.target, &v1.LifecycleHandler{HTTPGet: &tc.a}); !strings.Contains(text(err), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestHTTPSHookOfAPlainServerFallsBack(t *testing.T) {
	var authorized []string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorized = append(authorized, r.Header.Get("Authorization"))
	})
	headers := []v1.HTTPHeader{{Name: "Authorization", Value: "secret"}}
	for name, tc := range map[string]struct {
		server   *httptest.Server
		auth     string
		fallback bool
	}{
		"plain server": {httptest.NewServer(handler), "", true},
		"TLS server":   {httptest.NewTLSServer(handler), "secret", false},
	} {
		authorized = nil
		host, port := serve(t, tc.server)
		var warned []string
		target := Target{Host: at(host), Warn: func(reason, _ string) { warned = append(warned, reason) }}
		a := &v1.HTTPGetAction{Scheme: v1.URISchemeHTTPS, Port: intstr.FromInt32(port), HTTPHeaders: headers}
		if err := newRunner(t, nil).Run(t.Context(), target, &v1.LifecycleHandler{HTTPGet: a}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(authorized) != 1 || authorized[0] != tc.auth || (len(warned) == 1) != tc.fallback {
			t.Errorf("%s: requests %q, warned %v", name, authorized, warned)
		}
	}
}

func TestRedirectToAnotherHostIsNotFollowed(t *testing.T) {
	followed := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed++ }))
	_, port := serve(t, other)
	var paths []string
	host, own := serve(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/here", http.StatusFound)
			return
		}
		http.Redirect(w, r, "http://localhost:"+strconv.Itoa(int(port)), http.StatusFound)
	})))
	a := &v1.HTTPGetAction{Path: "/", Host: host, Port: intstr.FromInt32(own)}
	if err := newRunner(t, nil).Run(t.Context(), Target{}, &v1.LifecycleHandler{HTTPGet: a}); err != nil {
		t.Fatal(err)
	}
	if followed != 0 || strings.Join(paths, " ") != "/ /here" {
		t.Errorf("asked for %v here and %d times elsewhere", paths, followed)
	}
}
