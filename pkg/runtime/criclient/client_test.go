package criclient

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestOperationNamesAreTheKubelets(t *testing.T) {
	for method, want := range map[string]string{
		"/runtime.v1.RuntimeService/Version":          "version",
		"/runtime.v1.RuntimeService/RunPodSandbox":    "run_podsandbox",
		"/runtime.v1.RuntimeService/PodSandboxStatus": "podsandbox_status",
		"/runtime.v1.RuntimeService/ListContainers":   "list_containers",
		"/runtime.v1.ImageService/PullImage":          "pull_image",
	} {
		if got := operation(method); got != want {
			t.Errorf("operation(%s) = %q, want %q", method, got, want)
		}
	}
}

func TestDeadlines(t *testing.T) {
	const timeout = 2 * time.Minute
	for name, tc := range map[string]struct {
		req  any
		want time.Duration // 0: none
	}{
		"ordinary":           {&cri.ListContainersRequest{}, timeout},
		"pull":               {&cri.PullImageRequest{}, 0},
		"stop":               {&cri.StopContainerRequest{Timeout: 30}, timeout + 30*time.Second},
		"sandbox":            {&cri.RunPodSandboxRequest{}, 2 * timeout},
		"exec":               {&cri.ExecSyncRequest{Timeout: 5}, timeout + 5*time.Second},
		"exec without end":   {&cri.ExecSyncRequest{}, 0},
		"stop without grace": {&cri.StopContainerRequest{}, timeout},
	} {
		if got := deadline(tc.req, timeout); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// shy is a runtime that answers only after a while.
type shy struct {
	cri.UnimplementedRuntimeServiceServer
	refusals atomic.Int32
}

func (s *shy) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	if s.refusals.Add(-1) >= 0 {
		return nil, status.Error(codes.Unavailable, "not yet")
	}
	return &cri.VersionResponse{RuntimeName: "shy"}, nil
}

func (s *shy) ListContainers(ctx context.Context, _ *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func serve(t *testing.T, endpoint string, s cri.RuntimeServiceServer) {
	t.Helper()
	l, err := net.Listen("unix", strings.TrimPrefix(endpoint, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
}

func newClient(t *testing.T, timeout time.Duration) (*Client, string, *prometheus.Registry) {
	t.Helper()
	endpoint := "unix://" + filepath.Join(t.TempDir(), "s")
	metrics := prometheus.NewRegistry()
	c, err := New(Config{Endpoint: endpoint, Timeout: timeout, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, endpoint, metrics
}

func TestWaitOutlastsARuntimeThatIsNotReady(t *testing.T) {
	c, endpoint, _ := newClient(t, 0)
	s := &shy{}
	s.refusals.Store(2)
	go func() { // it comes up after the first try
		time.Sleep(50 * time.Millisecond)
		serve(t, endpoint, s)
	}()
	v, err := c.Wait(t.Context())
	if err != nil || v.RuntimeName != "shy" {
		t.Errorf("%v, %v", v, err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	c, endpoint, _ := newClient(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Wait(ctx); err == nil || !strings.Contains(err.Error(), endpoint) {
		t.Errorf("error %v, want one that names %s", err, endpoint)
	}
}

func TestCallsEndAndAreCounted(t *testing.T) {
	c, endpoint, metrics := newClient(t, 50*time.Millisecond)
	serve(t, endpoint, &shy{})
	if _, err := c.ListContainers(t.Context(), &cri.ListContainersRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call that hangs: %v", err)
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			if len(m.Label) == 1 && m.Label[0].GetValue() == "list_containers" && m.Counter != nil {
				counted[f.GetName()] = m.Counter.GetValue()
			}
		}
	}
	if counted["kubelet_runtime_operations_total"] != 1 || counted["kubelet_runtime_operations_errors_total"] != 1 {
		t.Errorf("counted %v", counted)
	}
}

func TestEndpointsThatCannotBe(t *testing.T) {
	for _, endpoint := range []string{"", "unix://", "/run/x.sock", "tcp://127.0.0.1:1"} {
		if _, err := New(Config{Endpoint: endpoint}); err == nil || !strings.Contains(err.Error(), "unix:///path") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
}
