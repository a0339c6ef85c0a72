package eviction

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// told keeps what workers and journal are told.
type told struct {
	events []string
}

func (t *told) Record(e journal.Entry) {
	t.events = append(t.events, e.Pod.Name+" "+e.Type+" "+e.Reason+" "+e.Message)
}

func TestEvictingForALimitOfItsOwn(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  v1.Pod
		want bool
	}{
		"a pod of the API server":          {v1.Pod{}, true},
		"of a priority below the system's": {v1.Pod{Spec: v1.PodSpec{Priority: ptr.To[int32](1_999_999_999)}}, true},
		"a critical pod":                   {v1.Pod{Spec: v1.PodSpec{Priority: ptr.To[int32](2_000_000_000)}}, false},
		"a static pod, which nobody would make anew": {v1.Pod{ObjectMeta: metav1.ObjectMeta{
			Annotations: map[string]string{pods.AnnotationConfigSource: pods.SourceFile}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var heard told
			metrics := prometheus.NewRegistry()
			updates := make(chan worker.Update, 1)
			e, err := New(Config{Updates: updates, Journal: journal.New(time.Now, &heard), Metrics: metrics})
			if err != nil {
				t.Fatal(err)
			}
			tc.pod.Name = "p"
			if got := e.EvictOwn(t.Context(), &tc.pod, "signal", "too much"); got != tc.want {
				t.Fatalf("evicted %v", got)
			}
			if !tc.want {
				if len(updates)+len(heard.events) > 0 {
					t.Errorf("told %+v", heard)
				}
				return
			}
			if len(heard.events) != 1 || heard.events[0] != "p Warning Evicted too much" {
				t.Errorf("events %q", heard.events)
			}
			u := <-updates
			status := v1.PodStatus{Phase: v1.PodRunning, PodIP: "1.2.3.4"}
			u.Explain(&status)
			if u.Kind != worker.Kill || u.Pod != &tc.pod || u.Removed || *u.Grace != 1 {
				t.Errorf("loop told %+v", u)
			}
			if status.Phase != v1.PodFailed || status.Reason != "Evicted" || status.Message != "too much" || status.PodIP == "" {
				t.Errorf("status %+v", status)
			}
			want := "# HELP kubelet_evictions Cumulative number of pod evictions by eviction signal\n# TYPE kubelet_evictions counter\nkubelet_evictions{eviction_signal=\"signal\"} 1\n"
			if err := testutil.GatherAndCompare(metrics, strings.NewReader(want)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEvictingForTheNode(t *testing.T) {
	updates, gone := make(chan worker.Update, 2), map[types.UID]bool{}
	var heard told
	e, err := New(Config{Updates: updates, Gone: func(uid types.UID) bool { return gone[uid] }, Journal: journal.New(time.Now, &heard)})
	if err != nil {
		t.Fatal(err)
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "1", Generation: 3}}
	for _, grace := range []int64{60, 1} { // first softly, then at once
		if !e.Evict(t.Context(), Eviction{Pod: pod, Signal: "s", Message: "low", Grace: grace, Disruption: true}) {
			t.Fatal("not evicted")
		}
	}
	if p := e.Pending(); len(p) != 1 || p[0].UID != "1" || p[0].Grace != 1 {
		t.Errorf("pending %+v", p)
	}
	gone["1"] = true
	if p := e.Pending(); len(p) != 0 {
		t.Errorf("still pending %+v", p)
	}
	u := <-updates
	status := v1.PodStatus{Conditions: []v1.PodCondition{{Type: v1.PodReady}}}
	u.Explain(&status)
	before := status.DeepCopy()
	u.Explain(&status) // again and again
	if !reflect.DeepEqual(&status, before) || len(status.Conditions) != 2 {
		t.Errorf("conditions %+v, before %+v", status.Conditions, before.Conditions)
	}
	c := status.Conditions[1]
	if c.Type != v1.DisruptionTarget || c.Status != v1.ConditionTrue || c.Reason != "TerminationByKubelet" || c.Message != "low" || c.ObservedGeneration != 3 || c.LastTransitionTime.IsZero() {
		t.Errorf("condition %+v", c)
	}
	done := v1.PodStatus{Phase: v1.PodSucceeded}
	if u.Explain(&done); !reflect.DeepEqual(done, v1.PodStatus{Phase: v1.PodSucceeded}) {
		t.Errorf("a pod that has succeeded: %+v", done)
	}
	if *u.Grace != 60 || status.Phase != v1.PodFailed || status.Reason != "Evicted" {
		t.Errorf("grace %d, status %+v", *u.Grace, status)
	}
}
