package worker

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestStepsAndStartsAreCounted(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	m, err := newMetrics(r, &Workers{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(100, 0)
	for _, st := range []step{{phase: Syncing}, {phase: Syncing, after: now}, {phase: Syncing, after: now}, {phase: Terminating}, {phase: Terminated}, {phase: Removing}} {
		m.step(st, now, func() time.Time { return now.Add(time.Second) })
	}
	pod := staticPod("1", "web")
	pod.Annotations[pods.AnnotationConfigSeen] = now.Add(-7 * time.Second).Format(time.RFC3339Nano)
	pod.Spec.Containers = make([]v1.Container, 3)
	m.begun(pod, now.Add(-6*time.Second))
	m.begun(nil, now) // an orphan
	status := func(p v1.PodPhase) v1.PodStatus { return v1.PodStatus{Phase: p} }
	m.started(pod, status(v1.PodPending), status(v1.PodPending), now)
	m.started(pod, status(v1.PodPending), status(v1.PodRunning), now)
	m.started(pod, status(v1.PodRunning), status(v1.PodRunning), now) // as after a restart of the agent
	var got strings.Builder
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, one := range f.Metric {
			if one.Histogram == nil {
				continue
			}
			got.WriteString(f.GetName())
			for _, l := range one.Label {
				got.WriteString(" " + l.GetValue())
			}
			got.WriteString(" " + time.Duration(one.Histogram.GetSampleSum()*float64(time.Second)).String() + "\n")
		}
	}
	want := `kubelet_containers_per_pod_count 3s
kubelet_pod_start_duration_seconds 7s
kubelet_pod_worker_duration_seconds create 1s
kubelet_pod_worker_duration_seconds kill 1s
kubelet_pod_worker_duration_seconds sync 2s
kubelet_pod_worker_start_duration_seconds 1s
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestWorkersAreCountedAsWhatTheyAre(t *testing.T) {
	pod := staticPod("1", "web")
	for name, tc := range map[string]struct {
		s    state
		want working
	}{
		"waits for its name":        {state{pod: pod, static: true, phase: Waiting}, working{"sync", "desired", "true"}},
		"runs":                      {state{pod: pod, phase: Syncing}, working{"sync", "desired", ""}},
		"has run":                   {state{pod: pod, phase: Terminated}, working{"terminated", "desired", ""}},
		"goes":                      {state{pod: pod, phase: Terminating, removed: true}, working{"terminating", "orphan", ""}},
		"goes, and is wanted again": {state{pod: pod, static: true, phase: Terminating, removed: true, wantedAgain: pod}, working{"terminating", "desired", "true"}},
		"is removed":                {state{pod: pod, static: true, phase: Removing, removed: true}, working{"terminated", "orphan", "true"}},
		"is known to nobody":        {state{running: &actual.Pod{}, phase: Terminating, removed: true}, working{"terminating", "runtime_only", "unknown"}},
	} {
		if got := tc.s.countedAs(); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestPodsAreCountedWhenSomebodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := newNode(t), prometheus.NewPedanticRegistry()
		w, err := New(Config{
			Cache: n, Runtime: n, Statuses: n, Clock: clock.RealClock{}, SyncFrequency: time.Hour, HostIPs: func() []string { return nil }, Metrics: r,
		})
		if err != nil {
			t.Fatal(err)
		}
		testrun.Start(t, w.Run)
		expect := func(name, text string) {
			t.Helper()
			synctest.Wait()
			// Values only: the words for people are not the test's.
			got, err := testutil.GatherAndCount(r, name)
			if err != nil || got == 0 {
				t.Fatalf("%s: %d, %v", name, got, err)
			}
			if values := valuesOf(t, r, name); values != text {
				t.Errorf("%s: %s, want %s", name, values, text)
			}
		}
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		expect("kubelet_active_pods", "{}=0 {true}=1")
		stopped := make(chan struct{})
		n.killPod = func(context.Context, *int64) error { <-stopped; return nil }
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		synctest.Wait()
		w.Update(Update{Kind: Create, Pod: pod}) // back before it is gone
		close(stopped)
		expect("kubelet_restarted_pods_total", "{}=0 {true}=1")
		w.Update(Update{Kind: Kill, Running: &actual.Pod{UID: types.UID("stray"), Name: "stray", Namespace: "default"}, Removed: true})
		expect("kubelet_orphaned_runtime_pods_total", "=1")
		w.mu.Lock()
		w.states["1"].resize = podstatus.Resize{InProgress: true}
		w.mu.Unlock()
		expect("kubelet_pod_in_progress_resizes", "=1")
	})
}

// valuesOf returns a family's values, ordered by their labels.
func valuesOf(t *testing.T, g prometheus.Gatherer, name string) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() != name {
				continue
			}
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			text := ""
			if len(labels) > 0 {
				text = "{" + strings.Join(labels, ",") + "}"
			}
			values = append(values, text+"="+strconv.Itoa(int(m.GetGauge().GetValue()+m.GetCounter().GetValue())))
		}
	}
	return strings.Join(values, " ")
}
