package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

type podList []*v1.Pod

func (l podList) Pods() []*v1.Pod { return l }

// start runs a server on free ports and returns the base URLs of its two endpoints.
func start(t *testing.T, cfg Config) (healthz, readOnly string) {
	t.Helper()
	cfg.HealthzListen, cfg.ReadOnlyListen = "127.0.0.1:0", "127.0.0.1:0"
	if cfg.Pods == nil {
		cfg.Pods = podList{}
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	patient(s)
	testrun.Start(t, s.Run)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return "http://" + s.endpoints[0].listener.Addr().String(), "http://" + s.endpoints[1].listener.Addr().String()
}

// patient lets a client of a busy machine be slow between coming and asking: a test of what is
// answered is none of when a client is cut off.
func patient(s *Server) {
	for _, e := range s.endpoints {
		e.http.ReadHeaderTimeout = testrun.Patience
	}
}

func do(t *testing.T, method, url string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestHealthz(t *testing.T) {
	good := Check{Name: "pleg", Check: func(context.Context) error { return nil }}
	bad := Check{Name: "runtime", Check: func(context.Context) error { return errors.New("Docker does not answer") }}
	tests := []struct {
		name   string
		checks []Check
		path   string
		code   int
		body   string
	}{
		{"ok without checks", nil, "/healthz", 200, "ok"},
		{"ok when all pass", []Check{good}, "/healthz", 200, "ok"},
		{"verbose names each check", []Check{good}, "/healthz?verbose", 200, "[+]ping ok\n[+]pleg ok\nhealthz check passed\n"},
		{"a failure says why", []Check{good, bad}, "/healthz", 500, "[+]ping ok\n[+]pleg ok\n[-]runtime failed: Docker does not answer\nhealthz check failed\n"},
		{"an excluded check does not count", []Check{good, bad}, "/healthz?exclude=runtime", 200, "ok"},
		{"one good check among bad ones", []Check{good, bad}, "/healthz/pleg", 200, "ok"},
		{"one bad check", []Check{good, bad}, "/healthz/runtime", 500, "[-]runtime failed: Docker does not answer\nhealthz check failed\n"},
		{"unknown check", []Check{good}, "/healthz/none", 404, "404 page not found\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			healthz, readOnly := start(t, Config{Checks: tt.checks})
			for _, base := range []string{healthz, readOnly} {
				code, body, _ := do(t, "GET", base+tt.path)
				if code != tt.code || body != tt.body {
					t.Errorf("%s: %d %q, want %d %q", tt.path, code, body, tt.code, tt.body)
				}
			}
		})
	}
}

func TestAHangingCheckFailsInTimeAndRunsOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		h, err := newHealth([]Check{{Name: "stuck", Check: func(context.Context) error {
			calls.Add(1)
			<-release
			return nil
		}}})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for i := range 3 {
			err := runAll(t.Context(), h.checks, nil)[1]
			if err == nil {
				t.Errorf("request %d: the stuck check passed", i)
			}
		}
		if took := time.Since(begin); took != 3*checkTimeout {
			t.Errorf("three requests took %s, want %s", took, 3*checkTimeout)
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("the stuck check was begun %d times, want once", n)
		}
		close(release)
		synctest.Wait()
		if err := runAll(t.Context(), h.checks, nil)[1]; err != nil {
			t.Errorf("after the check came back: %v", err)
		}
	})
}

func TestPodsAreAPodListWithStatuses(t *testing.T) {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-n1", UID: "u1"},
		Status:     v1.PodStatus{Phase: v1.PodRunning, PodIP: "172.17.0.2"},
	}
	_, readOnly := start(t, Config{Pods: podList{pod}})
	code, body, header := do(t, "GET", readOnly+"/pods")
	if code != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("/pods: %d %s", code, header)
	}
	var list v1.PodList
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if list.Kind != "PodList" || list.APIVersion != "v1" || len(list.Items) != 1 || list.Items[0].Status.PodIP != "172.17.0.2" {
		t.Errorf("/pods answered %s", body)
	}
}

func TestNoPodsAreAnEmptyListAndNotNull(t *testing.T) {
	_, readOnly := start(t, Config{})
	if _, body, _ := do(t, "GET", readOnly+"/pods"); !strings.Contains(body, `"items":[]`) {
		t.Errorf("/pods answered %s", body)
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	healthz, readOnly := start(t, Config{})
	tests := []struct {
		method, url string
		code        int
	}{
		{"HEAD", readOnly + "/pods", 200},
		{"POST", readOnly + "/pods", 405},
		{"DELETE", readOnly + "/pods", 405},
		{"POST", healthz + "/healthz", 405},
		{"GET", readOnly + "/", 404},
		{"GET", readOnly + "/exec/default/web/c", 404},
		{"GET", readOnly + "/debug/pprof/", 404},
		{"GET", healthz + "/pods", 404},
		{"GET", healthz + "/metrics", 404},
		{"GET", healthz + "/debug/pprof/", 404},
		{"GET", healthz + "/debug/pprof/cmdline", 404},
		{"GET", healthz + "/debug/flags/v", 404},
		{"GET", readOnly + "/configz", 404},
		{"GET", readOnly + "/checkpoint/default/web/c", 404},
		{"POST", readOnly + "/checkpoint/default/web/c", 404},
		{"GET", readOnly + "/containerLogs/default/web/c", 404},
		{"GET", readOnly + "/logs/", 404},
	}
	for _, tt := range tests {
		if code, _, _ := do(t, tt.method, tt.url); code != tt.code {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.url, code, tt.code)
		}
	}
}

func TestMetricsAreThoseOfTheRegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_test_total", Help: "For this test."})
	reg.MustRegister(c)
	c.Add(3)
	_, readOnly := start(t, Config{Metrics: reg})
	if code, body, _ := do(t, "GET", readOnly+"/metrics"); code != 200 || !strings.Contains(body, "kubelet_test_total 3") {
		t.Errorf("/metrics: %d %s", code, body)
	}
}

func TestAPortInUseIsNamedWithTheFlagThatChangesIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = New(Config{HealthzListen: "127.0.0.1:0", ReadOnlyListen: l.Addr().String(), Pods: podList{}, Metrics: prometheus.NewRegistry()})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "--read-only-port") {
		t.Errorf("New() = %v, want an error that names %s and --read-only-port", err, l.Addr())
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	ok := func(context.Context) error { return nil }
	for name, cfg := range map[string]Config{
		"read-only port without pods": {ReadOnlyListen: "127.0.0.1:0", Metrics: prometheus.NewRegistry()},
		"check without a name":        {Checks: []Check{{Check: ok}}},
		"check without a function":    {Checks: []Check{{Name: "a"}}},
		"two checks of one name":      {Checks: []Check{{Name: "a", Check: ok}, {Name: "a", Check: ok}}},
		"check named as ours":         {Checks: []Check{{Name: "ping", Check: ok}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New succeeded", name)
		}
	}
}

func TestASlowClientIsCutOff(t *testing.T) {
	s, err := New(Config{HealthzListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	s.endpoints[0].http.ReadHeaderTimeout = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	conn, err := net.Dial("tcp", s.endpoints[0].listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: a\r\n") // and never the end
	if err := conn.SetReadDeadline(time.Now().Add(testrun.Patience)); err != nil {
		t.Fatal(err)
	}
	// Closed before the text came, it is reset.
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection was not closed: %v", err)
	}
}

func TestShutdownLetsARequestUnderWayFinish(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	slow := Check{Name: "slow", Check: func(context.Context) error {
		close(entered)
		<-release
		return nil
	}}
	s, err := New(Config{HealthzListen: "127.0.0.1:0", Checks: []Check{slow}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + s.endpoints[0].listener.Addr().String() + "/healthz")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-entered
	cancel()
	close(release)
	if got := <-answer; got != "ok" {
		t.Errorf("the request under way got %q, want ok", got)
	}
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestRunWithAnEndedContextClosesThePorts(t *testing.T) {
	s, err := New(Config{HealthzListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	address := s.endpoints[0].listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	l.Close()
}

func TestAPanicEndsItsRequestAlone(t *testing.T) {
	broken := func(context.Context) error { panic("a check's defect") }
	healthz, readOnly := start(t, Config{Checks: []Check{{"broken", broken}}, Pods: panickingPods{}})
	for range 2 {
		if code, body, _ := do(t, "GET", healthz+"/healthz"); code != http.StatusInternalServerError {
			t.Errorf("a check that panics: %d %s", code, body)
		}
		if resp, err := http.Get(readOnly + "/pods"); err == nil {
			resp.Body.Close()
			t.Errorf("a handler that panics: %s", resp.Status)
		}
	}
	if code, body, _ := do(t, "GET", readOnly+"/metrics"); code != http.StatusOK {
		t.Errorf("after that: %d %s", code, body)
	}
}

type panickingPods struct{}

func (panickingPods) Pods() []*v1.Pod { panic("a handler's defect") }
