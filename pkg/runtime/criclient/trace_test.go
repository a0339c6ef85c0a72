package criclient

import (
	"context"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

func TestTheRuntimeHearsWhichSpanACallBelongsTo(t *testing.T) {
	for name, traced := range map[string]bool{"traced": true, "not traced": false} {
		t.Run(name, func(t *testing.T) {
			recorded := tracetest.NewSpanRecorder()
			traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorded))
			var provider trace.TracerProvider
			if traced {
				provider = traces
			}
			endpoint := "unix://" + filepath.Join(t.TempDir(), "s")
			heard := &listener{}
			serve(t, endpoint, heard)
			c, err := New(Config{Endpoint: endpoint, Traces: provider})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, parent := traces.Tracer("test").Start(t.Context(), "syncPod")
			defer parent.End()
			if _, err := c.Version(ctx, &cri.VersionRequest{}); err != nil {
				t.Fatal(err)
			}
			if !traced {
				if heard.parent != "" {
					t.Errorf("traceparent %q", heard.parent)
				}
				return
			}
			if !strings.Contains(heard.parent, parent.SpanContext().TraceID().String()) {
				t.Errorf("traceparent %q is not of the trace %s", heard.parent, parent.SpanContext().TraceID())
			}
			spans := recorded.Ended()
			if len(spans) != 1 || spans[0].Name() != "runtime.v1.RuntimeService/Version" || spans[0].Parent().SpanID() != parent.SpanContext().SpanID() {
				t.Errorf("spans %v", spans)
			}
		})
	}
}

// listener notes the span that a call says it belongs to.
type listener struct {
	cri.UnimplementedRuntimeServiceServer
	parent string
}

func (l *listener) Version(ctx context.Context, _ *cri.VersionRequest) (*cri.VersionResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	l.parent = strings.Join(md.Get("traceparent"), " ")
	return &cri.VersionResponse{}, nil
}

func TestACallIsMeasuredOnce(t *testing.T) {
	recorded := tracetest.NewSpanRecorder()
	registry, record := prometheus.NewRegistry(), journal.New(time.Now)
	endpoint := "unix://" + filepath.Join(t.TempDir(), "s")
	serve(t, endpoint, &listener{})
	c, err := New(Config{Endpoint: endpoint, Traces: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorded)), Metrics: registry, Journal: record})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	step := record.Begin(journal.Event{Kind: journal.Step})
	for range 3 {
		if _, err := c.Version(journal.In(t.Context(), step), &cri.VersionRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.StopContainer(journal.In(t.Context(), step), &cri.StopContainerRequest{ContainerId: "c"}); err == nil {
		t.Fatal("what is not implemented was done")
	}
	ended := recorded.Ended()
	var noted []journal.Event
	events, _ := record.Since(0)
	for _, e := range events {
		if e.Kind == journal.CRI {
			noted = append(noted, e)
		}
	}
	if len(ended) != 4 || len(noted) != 4 {
		t.Fatalf("%d spans, %d events", len(ended), len(noted))
	}
	sum, began := map[string]float64{}, record.Time(0)
	for i, e := range noted {
		span := ended[i]
		if took := span.EndTime().Sub(span.StartTime()); took != e.Took || took <= 0 || !strings.HasSuffix(span.Name(), "/"+e.Name) {
			t.Errorf("the span %s took %v, the event %s %v", span.Name(), took, e.Name, e.Took)
		}
		if late := span.StartTime().Sub(began.Add(time.Duration(e.At))).Abs(); late > time.Second {
			t.Errorf("the span began %v from the event", late) // the machine's clock may be set between
		}
		sum[operation(e.Name)] += e.Took.Seconds()
	}
	if code := ended[3].Status().Code; code != otelcodes.Error {
		t.Errorf("the span of a failed call has the status %v", code)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	observed := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "kubelet_runtime_operations_duration_seconds" {
			for _, m := range f.GetMetric() {
				observed[m.GetLabel()[0].GetValue()] = m.GetHistogram().GetSampleSum()
			}
		}
	}
	if !maps.Equal(observed, sum) {
		t.Errorf("observed %v, noted %v", observed, sum)
	}
}
