package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
)

// once carries out a probe with that handler, with a timeout of a minute: the answer
// matters, not how long a busy machine takes for it.
func once(t *testing.T, h v1.ProbeHandler, c *v1.Container) (answer, error) {
	t.Helper()
	return within(t, 60, h, c)
}

// unanswered probes a server that never answers, and fails unless the answer has that text in it, with the timeout
// for a %v. On a busy machine a second can be over before the server is reached, which is another answer.
func unanswered(t *testing.T, h v1.ProbeHandler, text string) {
	t.Helper()
	for _, seconds := range []int32{1, 20} {
		want := strings.ReplaceAll(text, "%v", (time.Duration(seconds) * time.Second).String())
		a, err := within(t, seconds, h, &v1.Container{})
		if strings.Contains(a.text, want) || seconds > 1 {
			check(t, a, err, failure, want)
			return
		}
	}
}

// within is once with that timeout.
func within(t *testing.T, seconds int32, h v1.ProbeHandler, c *v1.Container) (answer, error) {
	t.Helper()
	return newProber(nil).run(t.Context(), &v1.Probe{ProbeHandler: h, TimeoutSeconds: seconds}, subject{id: "1", container: c, host: "127.0.0.1"})
}

// check fails unless the answer is the result with that text in it.
func check(t *testing.T, a answer, err error, want result, text string) {
	t.Helper()
	if err != nil || a.result != want || !strings.Contains(a.text, text) || (text == "") != (a.text == "") {
		t.Errorf("%+v, %v; want result %d with %q", a, err, want, text)
	}
}

// portNumber is the port of an address or a URL.
func portNumber(t *testing.T, address string) int {
	t.Helper()
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		address = u.Host
	}
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// closedPort returns a port on which nobody listens.
func closedPort(t *testing.T) int {
	l := listen(t)
	defer l.Close()
	return portNumber(t, l.Addr().String())
}

func listen(t testing.TB) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestHTTP(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	t.Cleanup(elsewhere.Close)
	handler := http.NewServeMux()
	for _, code := range []int{199 + 1, 204, 399, 400, 404, 503} {
		handler.HandleFunc(fmt.Sprintf("/%d", code), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	handler.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/204", http.StatusFound) })
	handler.HandleFunc("/lost", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/404", http.StatusFound) })
	handler.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	handler.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1), http.StatusFound)
	})
	handler.HandleFunc("/port", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	handler.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	handler.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	})
	handler.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		for i := range 2 << 10 {
			w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1<<10))
		}
	})
	handler.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("a") != "b" {
			w.WriteHeader(500)
		}
	})
	plain := httptest.NewServer(handler)
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)

	for name, tc := range map[string]struct {
		path string
		want result
		text string
	}{
		"200":                              {"/200", success, ""},
		"204":                              {"/204", success, ""},
		"399":                              {"/399", success, "Probe terminated redirects"},
		"400":                              {"/400", failure, "HTTP probe failed with statuscode: 400"},
		"404":                              {"/404", failure, "HTTP probe failed with statuscode: 404"},
		"503":                              {"/503", failure, "HTTP probe failed with statuscode: 503"},
		"sent on within the host":          {"/here", success, ""},
		"sent on within the host, to none": {"/lost", failure, "statuscode: 404"},
		"sent on to another port":          {"/port", failure, "statuscode: 500"},
		"sent on to another host":          {"/away", success, "Probe terminated redirects, Response body: <a href"},
		"sent round":                       {"/round", failure, "stopped after 10 redirects"},
		"never stops answering":            {"/endless", success, ""},
		"says 2 MiB before it answers":     {"/headers", failure, `/headers": `},
		"with a query":                     {"/query?a=b", success, ""},
	} {
		for scheme, server := range map[v1.URIScheme]*httptest.Server{v1.URISchemeHTTP: plain, v1.URISchemeHTTPS: secure} {
			t.Run(name+" "+string(scheme), func(t *testing.T) {
				t.Parallel()
				a, err := once(t, v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: tc.path, Scheme: scheme, Port: intstr.FromInt(portNumber(t, server.URL))}}, &v1.Container{})
				check(t, a, err, tc.want, tc.text)
				if a.warning != (tc.want == success && tc.text != "") {
					t.Errorf("warning: %v", a.warning)
				}
			})
		}
	}
	t.Run("never answers", func(t *testing.T) {
		unanswered(t, v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/slow", Port: intstr.FromInt(portNumber(t, plain.URL))}}, "context deadline exceeded")
	})
	t.Run("nobody listens", func(t *testing.T) {
		a, err := once(t, v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Port: intstr.FromInt(closedPort(t))}}, &v1.Container{})
		check(t, a, err, failure, "connection refused")
	})
}

func TestHTTPHeaders(t *testing.T) {
	for name, tc := range map[string]struct {
		set  []v1.HTTPHeader
		want string // host, User-Agent, Accept and X
	}{
		"by default": {nil, "127.0.0.1|kube-probe/1.37|*/*|"},
		"given":      {[]v1.HTTPHeader{{Name: "host", Value: "example.org"}, {Name: "user-agent", Value: "me"}, {Name: "accept", Value: "text/plain"}, {Name: "x", Value: "1"}, {Name: "X", Value: "2"}}, "example.org|me|text/plain|1,2"},
		"taken away": {[]v1.HTTPHeader{{Name: "User-Agent"}, {Name: "Accept"}}, "127.0.0.1|||"},
	} {
		t.Run(name, func(t *testing.T) {
			var got, encoding string
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				host, _, _ := strings.Cut(r.Host, ":")
				got = strings.Join([]string{host, r.UserAgent(), r.Header.Get("Accept"), strings.Join(r.Header.Values("X"), ",")}, "|")
				encoding = r.Header.Get("Accept-Encoding")
			}))
			a, err := once(t, v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Port: intstr.FromInt(portNumber(t, server.URL)), HTTPHeaders: tc.set}}, &v1.Container{})
			server.Close()
			check(t, a, err, success, "")
			if got != tc.want || encoding != "" {
				t.Errorf("sent %q and encoding %q, want %q", got, encoding, tc.want)
			}
		})
	}
}

// No connection is left over, whatever HTTP the server speaks.
func TestHTTPLeavesNoConnection(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var open atomic.Int32
		idle := make(chan struct{}, 10)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.EnableHTTP2 = http2
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
				idle <- struct{}{}
			}
		}
		server.StartTLS()
		a, err := once(t, v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Scheme: v1.URISchemeHTTPS, Port: intstr.FromInt(portNumber(t, server.URL))}}, &v1.Container{})
		check(t, a, err, success, "")
		select {
		case <-idle:
		case <-time.After(time.Minute):
			t.Errorf("HTTP/2 %v: the connection stays open", http2)
		}
		if n := open.Load(); n != 0 {
			t.Errorf("HTTP/2 %v: %d connections are open", http2, n)
		}
		server.Close()
	}
}

func TestTCP(t *testing.T) {
	open := portNumber(t, listen(t).Addr().String())
	c := &v1.Container{Name: "c", Ports: []v1.ContainerPort{{Name: "other", ContainerPort: 1}, {Name: "web", ContainerPort: int32(open)}}}
	for name, tc := range map[string]struct {
		port intstr.IntOrString
		host string
		want result
		text string
	}{
		"somebody listens":  {intstr.FromInt(open), "", success, ""},
		"by the port name":  {intstr.FromString("web"), "", success, ""},
		"by number as text": {intstr.FromString(strconv.Itoa(open)), "", success, ""},
		"at another host":   {intstr.FromInt(open), "127.0.0.2", failure, "connection refused"},
		"nobody listens":    {intstr.FromInt(closedPort(t)), "", failure, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := once(t, v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: tc.port, Host: tc.host}}, c)
			check(t, a, err, tc.want, tc.text)
		})
	}
	for _, port := range []intstr.IntOrString{intstr.FromString("nosuch"), intstr.FromInt(0), intstr.FromInt(70000)} {
		if a, err := once(t, v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: port}}, c); err == nil {
			t.Errorf("port %v: %+v, want an error", port, a)
		}
	}
}

func TestGRPC(t *testing.T) {
	serve := func(register func(*grpc.Server)) int32 {
		s := grpc.NewServer()
		register(s)
		l := listen(t)
		go s.Serve(l) //nolint:errcheck // ends with Stop
		t.Cleanup(s.Stop)
		return int32(portNumber(t, l.Addr().String()))
	}
	server := health.NewServer()
	server.SetServingStatus("db", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	healthy := serve(func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, server) })
	bare := serve(func(*grpc.Server) {})
	hangs := serve(func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, hanging{}) })
	silent := int32(portNumber(t, listen(t).Addr().String()))
	db, nosuch := "db", "nosuch"
	for name, tc := range map[string]struct {
		action v1.GRPCAction
		want   result
		text   string
	}{
		"serving":            {v1.GRPCAction{Port: healthy}, success, ""},
		"not serving":        {v1.GRPCAction{Port: healthy, Service: &db}, failure, `service unhealthy (responded with "NOT_SERVING")`},
		"unknown service":    {v1.GRPCAction{Port: healthy, Service: &nosuch}, failure, "error: health rpc probe failed"},
		"no health protocol": {v1.GRPCAction{Port: bare}, failure, "does not implement the grpc health protocol"},
		"nobody listens":     {v1.GRPCAction{Port: int32(closedPort(t))}, failure, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := once(t, v1.ProbeHandler{GRPC: &tc.action}, &v1.Container{})
			check(t, a, err, tc.want, tc.text)
		})
	}
	for name, tc := range map[string]struct {
		port int32
		text string
	}{
		"never answers":       {hangs, "timeout: health rpc did not complete within %v"},
		"says nothing at all": {silent, "timeout: failed to connect service \"127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unanswered(t, v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: tc.port}}, tc.text)
		})
	}
}

// hanging is a health server that never answers.
type hanging struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (hanging) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// commands is an Exec that records its requests.
type commands struct {
	asked  *cri.ExecSyncRequest
	runs   int
	limit  int // of the output that was asked for
	answer cri.ExecSyncResponse
	err    error
}

func (c *commands) ExecSync(ctx context.Context, r *cri.ExecSyncRequest, _ ...grpc.CallOption) (*cri.ExecSyncResponse, error) {
	sent, _ := metadata.FromOutgoingContext(ctx)
	c.runs++
	c.asked, c.limit = r, crimeta.OutputLimitOf(metadata.NewIncomingContext(ctx, sent), 1<<30)
	return &c.answer, c.err
}

func TestExec(t *testing.T) {
	e := &commands{answer: cri.ExecSyncResponse{ExitCode: 2, Stdout: []byte(strings.Repeat("x", 20<<10))}}
	spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"cat", "/$(DIR)/$(NOSUCH)", "$$(DIR)"}}}, TimeoutSeconds: 3}
	c := &v1.Container{Env: []v1.EnvVar{{Name: "DIR", Value: "tmp"}}}
	a, err := newProber(e).run(t.Context(), spec, subject{id: "1", container: c})
	check(t, a, err, failure, "x")
	if e.limit != maxOutput {
		t.Errorf("asked for %d bytes of output, want %d", e.limit, maxOutput)
	}
	if len(a.text) != maxOutput {
		t.Errorf("%d bytes of output, want %d", len(a.text), maxOutput)
	}
	if got := fmt.Sprint(e.asked.ContainerId, e.asked.Cmd, e.asked.Timeout); got != "1[cat /tmp/$(NOSUCH) $(DIR)] 3" {
		t.Errorf("asked %s", got)
	}
}

func TestATimeoutRepeatsLittleOfACommand(t *testing.T) {
	e := &commands{err: status.Error(codes.DeadlineExceeded, "")}
	for command, want := range map[string]string{
		"sleep 9":                   `command timed out: "sleep 9" timed out after 3s`,
		strings.Repeat("x ", 1<<20): `command timed out: "` + strings.Repeat("x ", 48) + `x..." timed out after 3s`,
	} {
		spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: strings.Split(command, " ")}}, TimeoutSeconds: 3}
		a, err := newProber(e).run(t.Context(), spec, subject{id: "1", container: &v1.Container{}})
		check(t, a, err, failure, want)
		if a.text != want {
			t.Errorf("%.300q, want %q", a.text, want)
		}
	}
}

func TestACommandIsRunAgainUnlessTheRuntimeCouldNotTellItsEnd(t *testing.T) {
	for code, want := range map[codes.Code]int{codes.Unavailable: 1, codes.Unknown: tries} {
		e := &commands{err: status.Error(code, "it is not known how the command has ended")}
		spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"x"}}}}
		_, err := newProber(e).run(t.Context(), spec, subject{id: "1", container: &v1.Container{}})
		if e.runs != want || err == nil || err.Error() != "it is not known how the command has ended" {
			t.Errorf("%v: it ran %d times, want %d; %v", code, e.runs, want, err)
		}
	}
}

func TestWithoutAnAddressNothingIsAsked(t *testing.T) {
	spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt(22)}}, TimeoutSeconds: 1}
	if a, err := newProber(nil).run(t.Context(), spec, subject{container: &v1.Container{}}); err == nil {
		t.Errorf("%+v, want an error", a)
	}
}
