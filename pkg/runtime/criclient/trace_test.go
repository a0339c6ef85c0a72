package criclient

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
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
