package agent

import (
	"context"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	tracingapi "k8s.io/component-base/tracing/api/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// mute takes connections and never answers.
func mute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	testrun.Accept(t, l, func(c net.Conn) {
		go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
	})
	return l.Addr().String()
}

func TestAnEndpointOfTracesThatDoesNotAnswerHoldsNobody(t *testing.T) {
	// The library would wait that long, and without an end a test of it is over by then.
	const forever = 10 * time.Minute
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", strconv.FormatInt(forever.Milliseconds(), 10))
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", strconv.FormatInt(forever.Milliseconds(), 10))
	for name, endpoint := range map[string]string{"hangs": mute(t), "is not there": "127.0.0.1:1", "is no address": "dns:///nowhere.invalid:4317"} {
		t.Run(name, func(t *testing.T) {
			cfg := &config.Config{NodeName: "n1", KubeletConfiguration: kubeletconfig.KubeletConfiguration{
				Tracing: &tracingapi.TracingConfiguration{Endpoint: &endpoint, SamplingRatePerMillion: ptr.To[int32](1_000_000)},
			}}
			ctx, cancel := context.WithCancel(t.Context())
			traces, flush, err := newTracing(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			for range 4096 { // more than are kept
				_, span := traces.Tracer("test").Start(ctx, "syncPod")
				span.End()
			}
			cancel() // as when the agent is stopped
			ended := make(chan struct{})
			go func() { defer close(ended); flush() }()
			select {
			case <-ended:
			case <-time.After(forever / 10):
				t.Fatal("the agent would not end")
			}
		})
	}
}

func TestWithoutItsConfigurationNothingIsTraced(t *testing.T) {
	traces, flush, err := newTracing(t.Context(), &config.Config{})
	if err != nil || traces != nil {
		t.Errorf("%v, %v", traces, err)
	}
	flush()
}
