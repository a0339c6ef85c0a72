package eviction

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// told keeps what workers and journal are told.
type told struct {
	updates []worker.Update
	events  []string
}

func (t *told) Update(u worker.Update) { t.updates = append(t.updates, u) }
func (t *told) Record(e journal.Entry) {
	t.events = append(t.events, e.Pod.Name+" "+e.Type+" "+e.Reason+" "+e.Message)
}

func TestEvict(t *testing.T) {
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
			e, err := New(Config{Workers: &heard, Journal: journal.New(time.Now, &heard), Metrics: metrics})
			if err != nil {
				t.Fatal(err)
			}
			tc.pod.Name = "p"
			if got := e.Evict(&tc.pod, "signal", "too much"); got != tc.want {
				t.Fatalf("evicted %v", got)
			}
			if !tc.want {
				if len(heard.updates)+len(heard.events) > 0 {
					t.Errorf("told %+v", heard)
				}
				return
			}
			if len(heard.events) != 1 || heard.events[0] != "p Warning Evicted too much" {
				t.Errorf("events %q", heard.events)
			}
			u := heard.updates[0]
			status := v1.PodStatus{Phase: v1.PodRunning, PodIP: "1.2.3.4"}
			u.Explain(&status)
			if u.Kind != worker.Kill || u.Pod != &tc.pod || u.Removed || *u.Grace != 1 || len(heard.updates) != 1 {
				t.Errorf("worker told %+v", heard.updates)
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
