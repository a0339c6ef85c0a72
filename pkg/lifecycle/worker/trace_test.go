package worker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestEachStepOfAPodIsASpanOfTheKubelets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorded := tracetest.NewSpanRecorder()
		n := newNode(t)
		within := false
		n.syncPod = func(ctx context.Context, _ *v1.Pod) kuberuntime.SyncResult {
			within = trace.SpanContextFromContext(ctx).IsSampled()
			return kuberuntime.SyncResult{Err: errors.New("no room")}
		}
		w, err := New(Config{
			Cache: n, Runtime: n, Holdings: []Holding{n.volumes()}, Statuses: n, Clock: clock.RealClock{}, SyncFrequency: time.Minute,
			HostIPs: func() []string { return nil }, Traces: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorded)),
		})
		if err != nil {
			t.Fatal(err)
		}
		testrun.Start(t, w.Run)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		synctest.Wait()

		if !within {
			t.Error("what the runtime is asked is not within the span")
		}
		var names []string
		for _, s := range recorded.Ended() {
			names = append(names, s.Name())
			got := map[string]string{}
			for _, a := range s.Attributes() {
				got[string(a.Key)] = a.Value.AsString()
			}
			want := map[string]string{"k8s.pod.uid": "1", "k8s.pod": pod.Namespace + "/web", "k8s.pod.name": "web", "k8s.namespace.name": pod.Namespace}
			if s.Name() == "syncPod" {
				want["k8s.pod.update_type"] = "create"
				if s.Status().Code != codes.Error || len(s.Events()) != 1 {
					t.Errorf("a failed step: status %+v, events %+v", s.Status(), s.Events())
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s has %v, want %v", s.Name(), got, want)
			}
		}
		if want := []string{"syncPod", "syncTerminatingPod", "syncTerminatedPod", "removePod"}; !slices.Equal(names, want) {
			t.Errorf("spans %v, want %v", names, want)
		}
	})
}

func TestASpanThatNobodyRecordsCostsNothingWorthSpeakingOf(t *testing.T) {
	w := &Workers{tracer: noop.NewTracerProvider().Tracer(tracingScope)}
	st := step{phase: Syncing, uid: "1", pod: staticPod("1", "web")}
	cost := testing.AllocsPerRun(100, func() {
		_, span := w.startSpan(t.Context(), st)
		endSpan(span, nil)
	})
	if cost > 2 { // the context
		t.Errorf("%v allocations a step", cost)
	}
}
