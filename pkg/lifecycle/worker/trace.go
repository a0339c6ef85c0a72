package worker

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// tracingScope and the names below are the kubelet's (KEP-2831), so that what searches for them finds them.
const tracingScope = "k8s.io/kubernetes/pkg/kubelet"

// spanNames has no name of the kubelet's for a pod's removal, which there is its garbage collector's.
var spanNames = map[Phase]string{Syncing: "syncPod", Terminating: "syncTerminatingPod", Terminated: "syncTerminatedPod", Removing: "removePod"}

// startSpan begins the span of a step. What nobody records costs no attributes.
func (w *Workers) startSpan(ctx context.Context, st step) (context.Context, trace.Span) {
	ctx, span := w.tracer.Start(ctx, spanNames[st.phase])
	if !span.IsRecording() {
		return ctx, span
	}
	pod := st.ref()
	span.SetAttributes(
		semconv.K8SPodUID(string(st.uid)), attribute.String("k8s.pod", pod.String()),
		semconv.K8SPodName(pod.Name), semconv.K8SNamespaceName(pod.Namespace))
	if st.phase == Syncing {
		span.SetAttributes(attribute.String("k8s.pod.update_type", st.operation()))
	}
	return ctx, span
}

// endSpan ends a step's span with what became of it.
func endSpan(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		err = short(err)
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
