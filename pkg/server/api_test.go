package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// paths lists everything that is served, and more, with the authorization of each.
var paths = []struct {
	method, path, verb, subresources string
}{
	{"GET", "/pods", "get", "[pods proxy]"},
	{"GET", "/mini-kubelet/events", "get", "[pods proxy]"},
	{"GET", "/mini-kubelet/versions", "get", "[proxy]"},
	{"GET", "/pods/", "get", "[pods proxy]"},
	{"GET", "/podsandmore", "get", "[proxy]"},
	{"GET", "/runningpods/", "get", "[pods proxy]"},
	{"GET", "/healthz", "get", "[healthz proxy]"},
	{"GET", "/healthz/ping", "get", "[healthz proxy]"},
	{"GET", "/configz", "get", "[configz proxy]"},
	{"GET", "/stats/summary", "get", "[stats]"},
	{"GET", "/metrics", "get", "[metrics]"},
	{"GET", "/metrics/cadvisor", "get", "[metrics]"},
	{"GET", "/metrics/resource", "get", "[metrics]"},
	{"GET", "/metrics/probes", "get", "[metrics]"},
	{"GET", "/logs/", "get", "[log]"},
	{"GET", "/logs/syslog", "get", "[log]"},
	{"POST", "/checkpoint/ns/p/c", "create", "[checkpoint]"},
	{"GET", "/statusz", "get", "[statusz]"},
	{"GET", "/flagz", "get", "[configz]"},
	{"GET", "/containerLogs/ns/p/c", "get", "[proxy]"},
	{"GET", "/exec/ns/p/c", "create", "[proxy]"},
	{"POST", "/exec/ns/p/c", "create", "[proxy]"},
	{"POST", "/exec/ns/p/u/c", "create", "[proxy]"},
	{"GET", "/attach/ns/p/c", "create", "[proxy]"},
	{"POST", "/attach/ns/p/u/c", "create", "[proxy]"},
	{"GET", "/portForward/ns/p", "create", "[proxy]"},
	{"POST", "/portForward/ns/p/u", "create", "[proxy]"},
	{"POST", "/run/ns/p/c", "create", "[proxy]"},
	{"GET", "/run/ns/p/c", "create", "[proxy]"},
	{"PUT", "/run/ns/p/u/c", "create", "[proxy]"},
	{"GET", "/%65xec/ns/p/c", "create", "[proxy]"},
	{"GET", "/exec%2Fns/p/c", "create", "[proxy]"},
	{"GET", "//exec/ns/p/c", "get", "[proxy]"},
	{"GET", "/execandmore", "get", "[proxy]"},
	{"PATCH", "/nothing", "patch", "[proxy]"},
	{"DELETE", "/", "delete", "[proxy]"},
	{"OPTIONS", "/pods", "", "[pods proxy]"},
	{"GET", "/debug/pprof/", "get", "[proxy]"},
	{"GET", "/debug/pprof/profile", "get", "[proxy]"},
	{"GET", "/nothing", "get", "[proxy]"},
	{"GET", "/metrics/../exec/ns/p/c", "get", "[metrics]"},
	{"GET", "/stats/%2e%2e/exec/ns/p/c", "get", "[stats]"},
}

func TestNothingIsServedToWhoIsNotKnown(t *testing.T) {
	h := &host{}
	never := authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		t.Error("authorization was asked for a user that is not known")
		return authorizer.DecisionAllow, "", nil
	})
	base, client := startAPI(t, h, func(c *APIConfig) { c.Authenticator, c.Authorizer = nobody, never })
	for _, tt := range paths {
		if code, body := ask(t, client, tt.method, base+tt.path); code != 401 || body != "Unauthorized" {
			t.Errorf("%s %s: %d %q, want 401 Unauthorized", tt.method, tt.path, code, body)
		}
	}
	if calls := h.asked(); calls != nil {
		t.Errorf("the host was asked: %v", calls)
	}
}

func TestNothingIsServedToWhoMayNot(t *testing.T) {
	h := &host{}
	var asked []string
	base, client := startAPI(t, h, func(c *APIConfig) {
		c.Authorizer = authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
			asked = append(asked, a.GetSubresource())
			if a.GetUser().GetName() != "alice" || a.GetResource() != "nodes" || a.GetName() != "n1" || a.GetAPIVersion() != "v1" || !a.IsResourceRequest() || a.GetNamespace() != "" || a.GetAPIGroup() != "" {
				t.Errorf("attributes %+v", a)
			}
			return authorizer.DecisionNoOpinion, "no", nil
		})
	})
	for _, tt := range paths {
		asked = nil
		want := fmt.Sprintf("Forbidden (user=alice, verb=%s, resource=nodes, subresource(s)=%s)\n", tt.verb, tt.subresources)
		if code, body := ask(t, client, tt.method, base+tt.path); code != 403 || body != want {
			t.Errorf("%s %s: %d %q, want 403 %q", tt.method, tt.path, code, body, want)
		}
		if fmt.Sprint(asked) != tt.subresources {
			t.Errorf("%s %s was authorized as %v, want %s", tt.method, tt.path, asked, tt.subresources)
		}
	}
	if calls := h.asked(); calls != nil {
		t.Errorf("the host was asked: %v", calls)
	}
}

func TestAuthorization(t *testing.T) {
	only := func(subresource string) authorizer.AuthorizerFunc {
		return func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
			if a.GetSubresource() == subresource {
				return authorizer.DecisionAllow, "", nil
			}
			return authorizer.DecisionDeny, "", nil
		}
	}
	tests := []struct {
		name   string
		authz  authorizer.Authorizer
		path   string
		code   int
		answer string
	}{
		{"the fine subresource is enough", only("pods"), "/pods", 200, `"wanted"`},
		{"proxy is enough", only("proxy"), "/pods", 200, `"wanted"`},
		{"proxy is not enough for metrics", only("proxy"), "/metrics", 403, "Forbidden"},
		{"pods do not open exec", only("pods"), "/exec/ns/p/c", 403, "Forbidden"},
		{"a path that leads elsewhere opens nothing", only("metrics"), "/metrics/%2e%2e/pods", 404, "404"},
		{"an error is not a permission", broken, "/pods", 500, "Authorization error (user=alice, verb=get, resource=nodes, subresource=pods)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base, client := startAPI(t, &host{}, func(c *APIConfig) { c.Authorizer = tt.authz })
			if code, body := ask(t, client, "GET", base+tt.path); code != tt.code || !strings.Contains(body, tt.answer) || strings.Contains(body, "secret") {
				t.Errorf("%d %q, want %d %q", code, body, tt.code, tt.answer)
			}
		})
	}
}

// A WebSocket begins with GET.
func TestWhoMayOnlyReadRunsNothing(t *testing.T) {
	h := &host{}
	reading := authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		if a.GetVerb() == "get" {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionDeny, "", nil
	})
	base, client := startAPI(t, h, func(c *APIConfig) { c.Authorizer = reading })
	for _, path := range []string{
		"/exec/ns/p/c?command=ls&output=1", "/exec/ns/p/u/c?command=ls&output=1", "/%65xec/ns/p/c?command=ls&output=1", "//exec/ns/p/c?command=ls&output=1",
		"/pods/../exec/ns/p/c?command=ls&output=1", "/attach/ns/p/c?output=1", "/attach/ns/p/u/c?output=1",
		"/portForward/ns/p", "/portForward/ns/p/u", "/run/ns/p/c?cmd=ls", "/run/ns/p/u/c?cmd=ls",
	} {
		for _, method := range []string{"GET", "POST", "HEAD", "PUT", "OPTIONS"} {
			code, _ := ask(t, client, method, base+path)
			if code != 403 {
				t.Errorf("%s %s: %d, want 403", method, path, code)
			}
		}
	}
	if calls := h.asked(); calls != nil {
		t.Errorf("the host was asked: %v", calls)
	}
	if code, _ := ask(t, client, "GET", base+"/containerLogs/ns/p/c"); code != 200 {
		t.Errorf("a log: %d", code)
	}
}

func TestWhatIsAskedOfTheHost(t *testing.T) {
	h := &host{err: status.Error(codes.NotFound, `pod "p" not found`)}
	base, client := startAPI(t, h, nil)
	for _, tt := range []struct{ method, path, want string }{
		{"POST", "/exec/ns/p/c?command=ls&command=-l&output=1&error=1", `exec ns/p  c ["ls" "-l"] falsetruetruefalse`},
		{"GET", "/exec/ns/p/u/c?command=sh&input=1&output=1&tty=1&error=1", `exec ns/p u c ["sh"] truetruefalsetrue`},
		{"POST", "/attach/ns/p/c?input=1", `attach ns/p  c truefalsefalsefalse`},
		{"GET", "/attach/ns/p/u/c?output=1", `attach ns/p u c falsetruefalsefalse`},
		{"POST", "/portForward/ns/p", `forward ns/p  []`},
		{"GET", "/portForward/ns/p/u", `forward ns/p u []`},
		{"POST", "/run/ns/p/c?cmd=ls+-l", `run ns/p  c ["ls" "-l"]`},
		{"POST", "/run/ns/p/u/c?cmd=ls", `run ns/p u c ["ls"]`},
		{"GET", "/containerLogs/ns/p/c", `logs ns/p c`},
		{"GET", "/runningpods/", `running`},
		{"GET", "/stats/summary?only_cpu_and_memory=true", `summary true`},
		{"GET", "/stats/summary", `summary false`},
	} {
		h.calls = nil
		if code, body := ask(t, client, tt.method, base+tt.path); code != 404 || body != `pod "p" not found` {
			t.Errorf("%s %s: %d %q", tt.method, tt.path, code, body)
		}
		if got := h.asked(); !reflect.DeepEqual(got, []string{tt.want}) {
			t.Errorf("%s %s asked for %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

func TestHowErrorsAreTold(t *testing.T) {
	h := &host{}
	base, client := startAPI(t, h, nil)
	plain := errors.New(`container "c" in pod "p" is waiting to start: ContainerCreating`)
	for _, tt := range []struct {
		method, path string
		err          error
		code         int
		body         string
	}{
		{"GET", "/containerLogs/ns/p/c", plain, 400, plain.Error()},
		{"POST", "/exec/ns/p/c?output=1", plain, 500, plain.Error()},
		{"POST", "/exec/ns/p/c?output=1", status.Error(codes.InvalidArgument, "no"), 400, "no"},
		{"POST", "/exec/ns/p/c?output=1", status.Error(codes.ResourceExhausted, "later"), 429, "later"},
		{"POST", "/exec/ns/p/c?output=1", status.Error(codes.FailedPrecondition, "not running"), 500, "not running"},
		{"POST", "/run/ns/p/c?cmd=ls", plain, 500, plain.Error()},
		{"GET", "/stats/summary", plain, 500, plain.Error()},
		{"POST", "/checkpoint/ns/p/c", status.Error(codes.Unimplemented, "cannot"), 501, "cannot"},
		{"POST", "/exec/ns/p/c", nil, 400, "you must specify at least 1 of stdin, stdout, stderr"},
		{"GET", "/containerLogs/ns/p/c?tailLines=-1", nil, 422, `{"message": "Invalid request: tailLines must not be negative."}`},
		{"GET", "/containerLogs/ns/p/c?tailLines=x", nil, 400, `{"message": "Unable to decode query."}`},
	} {
		h.err = tt.err
		if code, body := ask(t, client, tt.method, base+tt.path); code != tt.code || body != tt.body {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.path, code, body, tt.code, tt.body)
		}
	}
}

func TestWhatTheAPIAnswers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "syslog"), []byte("a line\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_test_total", Help: "For this test."})
	reg.MustRegister(c)
	all := func(c *APIConfig) { c.LogsDir, c.Metrics.Agent = dir, reg }
	off := func(c *APIConfig) { c.Profiling = false }
	undebugged := func(c *APIConfig) { c.LogsDir, c.Debugging = dir, false }
	const debugOff = "Debug endpoints are disabled.\n"
	for _, tt := range []struct {
		config       func(*APIConfig)
		method, path string
		code         int
		body         string // or a part
	}{
		{all, "GET", "/healthz", 200, "ok"},
		{all, "GET", "/pods", 200, `"name":"wanted"`},
		{all, "GET", "/runningpods/", 200, `"name":"running"`},
		{all, "GET", "/runningpods", 200, `"kind":"PodList"`},
		{all, "GET", "/configz", 200, `{"kubeletconfig":{"maxPods":110}}`},
		{all, "GET", "/metrics", 200, "kubelet_test_total 0"},
		{all, "GET", "/metrics/cadvisor", 200, ""},
		{all, "GET", "/metrics/resource", 200, ""},
		{all, "GET", "/metrics/probes", 200, ""},
		{all, "GET", "/stats/summary", 200, `"nodeName":"n1"`},
		{all, "GET", "/logs/", 200, `href="syslog"`},
		{all, "GET", "/logs/syslog", 200, "a line\n"},
		{all, "GET", "/logs/%2e%2e/%2e%2e/etc/passwd", 404, "404 page not found\n"},
		{all, "GET", "/debug/pprof/", 200, "goroutine"},
		{all, "GET", "/debug/pprof/cmdline", 200, "server.test"},
		{all, "POST", "/run/ns/p/c?cmd=ls", 200, "out"},
		{all, "GET", "/run/ns/p/c?cmd=ls", 405, ""},
		{all, "DELETE", "/exec/ns/p/c", 405, ""},
		{all, "POST", "/pods", 405, ""},
		{all, "GET", "/debug/flags/v", 405, "flags endpoint is disabled.\n"}, // nothing sets it here
		{all, "GET", "/nothing", 404, ""},
		{all, "POST", "/checkpoint/ns/p/c?timeout=5", 200, `{"items":["/kept.tar"]}`},
		{all, "POST", "/checkpoint/ns/p/c?timeout=-5", 400, "cannot parse value of timeout parameter"},
		{all, "GET", "/checkpoint/ns/p/c", 405, ""},
		{off, "GET", "/logs/", 405, "logs endpoint is disabled.\n"},
		{off, "GET", "/debug/pprof/", 405, "profiling endpoint is disabled.\n"},
		{off, "GET", "/debug/pprof/profile", 405, "profiling endpoint is disabled.\n"},
		{undebugged, "GET", "/exec/ns/p/c", 405, debugOff},
		{undebugged, "POST", "/exec/ns/p/u/c", 405, debugOff},
		{undebugged, "POST", "/attach/ns/p/c", 405, debugOff},
		{undebugged, "POST", "/portForward/ns/p", 405, debugOff},
		{undebugged, "POST", "/run/ns/p/c", 405, debugOff},
		{undebugged, "GET", "/containerLogs/ns/p/c", 405, debugOff},
		{undebugged, "GET", "/runningpods/", 405, debugOff},
		{undebugged, "GET", "/logs/syslog", 405, debugOff},
		{undebugged, "GET", "/debug/pprof/", 405, debugOff},
		{undebugged, "GET", "/configz", 404, ""},
		{undebugged, "GET", "/pods", 200, `"name":"wanted"`},
		{undebugged, "GET", "/stats/summary", 200, `"nodeName":"n1"`},
		{undebugged, "GET", "/metrics/cadvisor", 200, ""},
	} {
		t.Run(fmt.Sprintf("%s%s", tt.method, tt.path), func(t *testing.T) {
			base, client := startAPI(t, &host{}, tt.config)
			if code, body := ask(t, client, tt.method, base+tt.path); code != tt.code || !strings.Contains(body, tt.body) {
				t.Errorf("%d %q, want %d %q", code, body, tt.code, tt.body)
			}
		})
	}
}

func TestTheVerbosityOfTheLogIsChanged(t *testing.T) {
	level := ""
	base, client := startAPI(t, &host{}, func(c *APIConfig) {
		c.SetVerbosity = func(l string) (string, error) {
			if l == "loud" {
				return "", errors.New("no number")
			}
			level = l
			return "successfully set to " + l, nil
		}
	})
	for _, tt := range []struct {
		body, want string
		code       int
	}{
		{"4", "successfully set to 4", 200}, {"loud", "set the level: no number\n", 400}, {strings.Repeat("4", 17), "read the level: http: request body too large\n", 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/debug/flags/v", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.code || string(answer) != tt.want || level != "4" {
			t.Errorf("%q: %d %q, level %q", tt.body, resp.StatusCode, answer, level)
		}
	}
}

func TestAnAPIThatCannotBeServedIsRefused(t *testing.T) {
	for name, change := range map[string]func(*APIConfig){
		"no host":              func(c *APIConfig) { c.Host = nil },
		"no configz":           func(c *APIConfig) { c.Configz = nil },
		"no authenticator":     func(c *APIConfig) { c.Authenticator = nil },
		"no authorizer":        func(c *APIConfig) { c.Authorizer = nil },
		"no TLS":               func(c *APIConfig) { c.TLS = nil },
		"TLS with no key":      func(c *APIConfig) { c.TLS = &tls.Config{} },
		"a port that is taken": func(c *APIConfig) { c.Listen = "256.0.0.1:1" },
	} {
		c := APIConfig{
			Listen: "127.0.0.1:0", TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }},
			Authenticator: alice, Authorizer: always, Content: Content{Host: &host{}, Configz: func() any { return nil }},
		}
		change(&c)
		if _, err := New(Config{API: &c, Pods: podList{}}); err == nil {
			t.Errorf("%s: New succeeded", name)
		}
	}
}

func TestAHugeBodyIsNotRead(t *testing.T) {
	h := &host{}
	base, client := startAPI(t, h, nil)
	for _, path := range []string{"/run/ns/p/c?cmd=ls", "/exec/ns/p/c?command=ls&output=1", "/attach/ns/p/c?output=1", "/portForward/ns/p"} {
		req, err := http.NewRequestWithContext(soon(t), "POST", base+path, &endless{most: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client.Do(req)
		if err != nil { // it was cut off while it still sent
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if sent := req.Body.(*endless).sent.Load(); sent > 64<<20 {
			t.Errorf("%s: took %d bytes", path, sent)
		}
	}
	if calls := h.asked(); calls != nil {
		t.Errorf("the host was asked: %v", calls)
	}
}

// endless is a body of x.
type endless struct {
	most int64
	sent atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.sent.Load() >= e.most {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = 'x'
	}
	e.sent.Add(int64(len(p)))
	return len(p), nil
}

func (e *endless) Close() error { return nil }
