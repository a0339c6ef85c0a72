package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestARequestIsASpanOfItsCallersWithoutWhatIsExecuted(t *testing.T) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	recorded := tracetest.NewSpanRecorder()
	never := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorded), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	var streams []string
	s := httptest.NewServer(traced(never, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(http.Flusher); !ok {
			streams = append(streams, "no http.Flusher")
		}
		if _, ok := w.(http.Hijacker); !ok {
			streams = append(streams, "no http.Hijacker")
		}
		// Without the latter a stream would end as early as a short answer.
		if c := http.NewResponseController(w); errors.Join(c.Flush(), c.SetWriteDeadline(time.Time{}), c.SetReadDeadline(time.Time{})) != nil {
			streams = append(streams, "no flushing or deadlines")
		}
	})))
	defer s.Close()
	for _, flags := range []string{"00", "01"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/exec/ns/pod/c?command=secret", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-"+flags)
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if len(streams) > 0 {
		t.Errorf("a stream could not be served: %v", streams)
	}
	s.Close() // a span ends after its answer has been read
	spans := recorded.Ended()
	if len(spans) != 1 || spans[0].SpanContext().TraceID().String() != trace {
		t.Fatalf("spans %v, want one, of the request that is sampled", spans)
	}
	for _, a := range spans[0].Attributes() {
		if text := fmt.Sprint(a.Value.AsInterface()); strings.Contains(text, "secret") {
			t.Errorf("%s is %s", a.Key, text)
		}
	}
}
