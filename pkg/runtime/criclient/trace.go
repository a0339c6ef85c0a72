package criclient

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// measuredOnce makes the spans of calls begin and end when the calls do for the journal and the histogram, where otelgrpc would
// ask the clock by itself. Spans of streams are as otelgrpc makes them.
type measuredOnce struct{ trace.TracerProvider }

// Tracer implements trace.TracerProvider.
func (p measuredOnce) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	return tracer{p.TracerProvider.Tracer(name, options...)}
}

type tracer struct{ trace.Tracer }

// Start implements trace.Tracer.
func (t tracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	of, _ := ctx.Value(tracedKey{}).(*traced)
	if of == nil {
		return t.Tracer.Start(ctx, name, options...)
	}
	ctx, span := t.Tracer.Start(ctx, name, append(options[:len(options):len(options)], trace.WithTimestamp(of.began))...)
	if of.span != nil { // of a try before this one
		of.span.End()
	}
	of.span = span
	left := open{span}
	return trace.ContextWithSpan(ctx, left), left
}

// traced is one call, which has one span at most; none if nothing is traced. It is used by the caller's goroutine.
type traced struct {
	began time.Time
	span  trace.Span
}

type tracedKey struct{}

// tracedFrom returns a context in which a span begins when the call did.
func tracedFrom(ctx context.Context, began time.Time) (context.Context, *traced) {
	t := &traced{began: began}
	return context.WithValue(ctx, tracedKey{}, t), t
}

func (t *traced) end(at time.Time) {
	if t.span != nil {
		t.span.End(trace.WithTimestamp(at))
	}
}

// open is a span that its call ends.
type open struct{ trace.Span }

// End implements trace.Span.
func (open) End(...trace.SpanEndOption) {}
