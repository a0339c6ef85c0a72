package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestStepsAndStartsAreCounted(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	m, err := newMetrics(r)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(100, 0)
	for _, st := range []step{{phase: Syncing}, {phase: Syncing, after: now}, {phase: Syncing, after: now}, {phase: Terminating}, {phase: Terminated}, {phase: Removing}} {
		m.step(st, now, func() time.Time { return now.Add(time.Second) })
	}
	begun := metav1.NewTime(now.Add(-7 * time.Second))
	status := func(p v1.PodPhase) v1.PodStatus { return v1.PodStatus{Phase: p, StartTime: &begun} }
	m.started(status(v1.PodPending), status(v1.PodPending), now)
	m.started(status(v1.PodPending), status(v1.PodRunning), now)
	m.started(status(v1.PodRunning), status(v1.PodRunning), now) // as after a restart of the agent
	var got strings.Builder
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, one := range f.Metric {
			got.WriteString(f.GetName())
			for _, l := range one.Label {
				got.WriteString(" " + l.GetValue())
			}
			got.WriteString(" " + time.Duration(one.Histogram.GetSampleSum()*float64(time.Second)).String() + "\n")
		}
	}
	want := "kubelet_pod_start_duration_seconds 7s\nkubelet_pod_worker_duration_seconds create 1s\nkubelet_pod_worker_duration_seconds kill 1s\nkubelet_pod_worker_duration_seconds sync 2s\n"
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	if problems, err := testutil.GatherAndLint(r); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
