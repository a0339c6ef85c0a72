package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/component-base/tracing"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

// flushTimeout bounds how long the agent's end waits until its last spans are taken.
const flushTimeout = time.Second

// newTracing returns what makes spans and sends them to tracing.endpoint, as the kubelet does (KEP-2831); nil if
// tracing is not configured. Spans are sent in the background, and those that nobody takes are dropped: nobody
// waits for the endpoint but flush, which sends the last.
func newTracing(ctx context.Context, cfg *config.Config) (traces trace.TracerProvider, flush func(), err error) {
	if cfg.Tracing == nil {
		return nil, func() {}, nil
	}
	otel.SetErrorHandler(&tracingErrors{}) // the library has one for the process
	provider, err := tracing.NewProvider(ctx, cfg.Tracing, nil, []resource.Option{resource.WithAttributes(
		semconv.ServiceName("kubelet"), semconv.HostName(cfg.NodeName))})
	if err != nil {
		return nil, nil, fmt.Errorf("tracing: %w", err)
	}
	return provider, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			klog.InfoS("The last spans of the traces could not be sent", "err", err)
		}
	}, nil
}

// tracingErrors logs why spans could not be sent, once as long as it is the same.
type tracingErrors struct {
	mu   sync.Mutex
	once logonce.Error
}

// Handle implements otel.ErrorHandler.
func (t *tracingErrors) Handle(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.once.Note(err) {
		klog.ErrorS(err, "Spans could not be sent to tracing.endpoint; they are dropped, and the agent goes on")
	}
}
