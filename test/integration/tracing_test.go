package integration

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// receiver keeps the spans that it is sent, by OTLP over gRPC.
type receiver struct {
	collector.UnimplementedTraceServiceServer

	mu      sync.Mutex
	spans   []*otlp.Span
	service map[string]string // attributes of who sent them
}

func (r *receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range req.ResourceSpans {
		r.service = attributes(of.Resource.Attributes)
		for _, scope := range of.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func attributes(list []*common.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		all[a.Key] = a.Value.GetStringValue()
	}
	return all
}

// receive serves a receiver until the test ends.
func receive(t *testing.T) (r *receiver, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, s, done := &receiver{}, grpc.NewServer(), make(chan error, 1)
	collector.RegisterTraceServiceServer(s, r)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return r, l.Addr().String()
}

// lacks returns what of the life of the pod is not there yet: its steps, and below one of them the calls that made it.
func (r *receiver) lacks(pod string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := map[string]string{} // IDs of spans, and their names
	var names, below []string
	for _, s := range r.spans {
		if a := attributes(s.Attributes); strings.HasPrefix(a["k8s.pod.name"], pod) {
			steps[string(s.SpanId)] = s.Name
			names = append(names, s.Name)
		}
	}
	for _, s := range r.spans {
		if step, ok := steps[string(s.ParentSpanId)]; ok {
			below = append(below, step+" "+s.Name)
		}
	}
	for _, want := range []string{"syncPod", "syncTerminatingPod", "syncTerminatedPod"} {
		if !slices.Contains(names, want) {
			return fmt.Errorf("no span %s of the pod in %q", want, names)
		}
	}
	for _, want := range []string{"syncPod runtime.v1.RuntimeService/RunPodSandbox", "syncPod runtime.v1.RuntimeService/StartContainer", "syncTerminatingPod runtime.v1.RuntimeService/StopContainer"} {
		if !slices.Contains(below, want) {
			return fmt.Errorf("no span %s in %q", want, below)
		}
	}
	return nil
}

func TestAPodsLifeIsTraced(t *testing.T) {
	t.Parallel()
	r, address := receive(t)
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{"tracing": map[string]any{"endpoint": address, "samplingRatePerMillion": 1_000_000}}})
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	a.Remove("web.yaml")
	harness.Eventually(t, "the life of the pod has been received", harness.Patience, func() error { return r.lacks("web") }, a.Explain)
	a.Interrupt()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.service["service.name"] != "kubelet" || r.service["host.name"] != a.Node {
		t.Errorf("they are of %v", r.service)
	}
}
