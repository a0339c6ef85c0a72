package preemption

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

type events []string

func (e *events) Record(entry journal.Entry) {
	*e = append(*e, entry.Type+" "+entry.Reason+" "+entry.Pod.Name+": "+entry.Message)
}

func TestVictimsEndAsPreemptedByTheKubelet(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	victim := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "w", Generation: 3}}
	var said events
	registry := prometheus.NewRegistry()
	p, err := New(Config{
		Victims: func(*v1.Pod, []*v1.Pod, []*v1.Pod) ([]*v1.Pod, []pods.Shortage, error) {
			return []*v1.Pod{victim}, []pods.Shortage{{Resource: v1.ResourceMemory}, {Resource: v1.ResourceCPU}}, nil
		},
		Now: func() time.Time { return now }, Journal: journal.New(time.Now, &said), Metrics: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	updates, err := p.Preempt(&v1.Pod{}, []*v1.Pod{victim}, nil)
	if err != nil || len(updates) != 1 {
		t.Fatalf("%v, %v", updates, err)
	}
	u := updates[0]
	if u.Kind != worker.Kill || u.Pod != victim || u.Grace != nil || u.Removed {
		t.Errorf("%+v", u)
	}
	if len(said) != 1 || said[0] != "Warning Preempting web: Preempted in order to admit critical pod" {
		t.Errorf("events %q", said)
	}
	if n := testutil.ToFloat64(p.count.WithLabelValues("memory")); n != 1 || testutil.CollectAndCount(registry, "kubelet_preemptions") != 1 {
		t.Errorf("counted %v", n)
	}
	s := v1.PodStatus{Phase: v1.PodRunning, Conditions: []v1.PodCondition{{Type: v1.PodReady}, {Type: v1.DisruptionTarget, Status: v1.ConditionFalse, Reason: "Other"}}}
	for range 2 { // again with every status
		u.Explain(&s)
		now = now.Add(time.Hour)
	}
	if s.Phase != v1.PodFailed || s.Reason != "Preempting" || s.Message != "Preempted in order to admit critical pod" || len(s.Conditions) != 2 {
		t.Errorf("%+v", s)
	}
	want := v1.PodCondition{
		Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: "TerminationByKubelet", ObservedGeneration: 3,
		Message: "Pod was preempted by Kubelet to accommodate a critical pod.", LastTransitionTime: metav1.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	if s.Conditions[1] != want {
		t.Errorf("condition %+v", s.Conditions[1])
	}
	done := v1.PodStatus{Phase: v1.PodSucceeded}
	if u.Explain(&done); done.Phase != v1.PodSucceeded || done.Reason+done.Message != "" {
		t.Errorf("a pod that has succeeded: %+v", done)
	}
	fresh := v1.PodStatus{}
	u.Explain(&fresh)
	if len(fresh.Conditions) != 1 || fresh.Conditions[0] != want {
		t.Errorf("conditions %+v", fresh.Conditions)
	}
}

func TestNobodyEndsForNothing(t *testing.T) {
	failed := errors.New("no set")
	var said events
	p, err := New(Config{
		Victims: func(*v1.Pod, []*v1.Pod, []*v1.Pod) ([]*v1.Pod, []pods.Shortage, error) { return nil, nil, failed },
		Now:     time.Now, Journal: journal.New(time.Now, &said),
	})
	if err != nil {
		t.Fatal(err)
	}
	if updates, err := p.Preempt(&v1.Pod{}, nil, nil); !errors.Is(err, failed) || len(updates)+len(said) > 0 {
		t.Errorf("%v, %v, %q", updates, err, said)
	}
}
