package server

import (
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/component-base/tracing"
)

// traced makes requests spans, within those that the caller names (traceparent): only of callers who have been
// let in, since a caller also says that his request is to be recorded, whatever the sampling rate. Not by
// tracing.WithTracing, which puts the query into the span: what is executed in containers has secrets in it.
func traced(traces trace.TracerProvider, next http.Handler) http.Handler {
	if traces == nil {
		return next
	}
	return otelhttp.NewHandler(next, "kubelet", otelhttp.WithTracerProvider(traces), otelhttp.WithPropagators(tracing.Propagators()))
}
