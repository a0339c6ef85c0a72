package agent

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	tracingapi "k8s.io/component-base/tracing/api/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

// mute takes connections and never answers.
func mute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

func TestAnEndpointOfTracesThatDoesNotAnswerHoldsNobody(t *testing.T) {
	const stop = 5 * time.Second // within which the agent has to end
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
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for range 10_000 { // more than are kept
					_, span := traces.Tracer("test").Start(ctx, "syncPod")
					span.End()
				}
				cancel() // as when the agent is stopped
				flush()
			}()
			select {
			case <-ended:
			case <-time.After(stop):
				t.Errorf("still there after %v", stop)
				<-ended
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
