package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// witness sees every version of a namespace's pods as a watcher gets it, and fails
// the test when one goes backwards.
type witness struct {
	t    *testing.T
	mu   sync.Mutex
	seen []sighting
	last map[types.UID]*v1.Pod
}

type sighting struct {
	at   time.Time
	kind watch.EventType
	pod  *v1.Pod
}

func watchPods(t *testing.T, n *harness.Node, ns string) *witness {
	t.Helper()
	pods := n.Cluster.Client.CoreV1().Pods(ns)
	list, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := watchtools.NewRetryWatcherWithContext(t.Context(), list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return pods.Watch(ctx, o) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &witness{t: t, last: map[types.UID]*v1.Pod{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			if p, ok := e.Object.(*v1.Pod); ok {
				s.see(sighting{time.Now(), e.Type, p})
			} else if e.Type == watch.Error {
				t.Errorf("the watch of pods has failed: %+v", e.Object)
			}
		}
	}()
	t.Cleanup(func() {
		w.Stop()
		<-done
	})
	return s
}

func (s *witness) see(e sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, e)
	if was := s.last[e.pod.UID]; was != nil {
		for _, wrong := range backwards(was, e.pod) {
			s.t.Errorf("pod %s (%s) went backwards: %s", e.pod.Name, e.pod.UID, wrong)
		}
	}
	s.last[e.pod.UID] = e.pod
}

// backwards returns how a pod's status contradicts the one before.
func backwards(was, now *v1.Pod) []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	rank := map[v1.PodPhase]int{"": 0, v1.PodPending: 1, v1.PodRunning: 2, v1.PodSucceeded: 3, v1.PodFailed: 3}
	a, b := was.Status, now.Status
	if rank[b.Phase] < rank[a.Phase] || rank[a.Phase] == 3 && a.Phase != b.Phase {
		say("phase %s, then %s", a.Phase, b.Phase)
	}
	if a.StartTime != nil && !a.StartTime.Equal(b.StartTime) {
		say("start time %v, then %v", a.StartTime, b.StartTime)
	}
	if b.ObservedGeneration < a.ObservedGeneration {
		say("observed generation %d, then %d", a.ObservedGeneration, b.ObservedGeneration)
	}
	for _, c := range now.Spec.Containers {
		x, y := harness.Status(was, c.Name), harness.Status(now, c.Name)
		if y.RestartCount < x.RestartCount {
			say("%s: %d restarts, then %d", c.Name, x.RestartCount, y.RestartCount)
		}
		// One that was created and never started may disappear: a crash in between
		// leaves it, and it is replaced.
		if x.ContainerID != "" && y.ContainerID == "" && x.State.Waiting == nil {
			say("%s: container %s that was %+v, then none but %+v", c.Name, x.ContainerID, x.State, y.State)
		}
		if x.State.Terminated != nil && y.State.Terminated == nil && y.RestartCount == x.RestartCount && y.State.Running != nil {
			say("%s: terminated, then runs as the same attempt", c.Name)
		}
		if x.State.Terminated != nil && was.Spec.RestartPolicy == v1.RestartPolicyNever && y.State.Terminated == nil {
			say("%s: terminated for good, then %+v", c.Name, y.State)
		}
	}
	for _, c := range a.Conditions {
		found := false
		for _, d := range b.Conditions {
			found = found || c.Type == d.Type
			if c.Type == d.Type && d.LastTransitionTime.Before(&c.LastTransitionTime) {
				say("condition %s changed at %v, then at %v", c.Type, c.LastTransitionTime, d.LastTransitionTime)
			}
		}
		if !found {
			say("condition %s is gone", c.Type)
		}
	}
	return wrong
}

// of returns the sightings of a pod by name.
func (s *witness) of(name string) []sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []sighting
	for _, e := range s.seen {
		if e.pod.Name == name {
			of = append(of, e)
		}
	}
	return of
}

// lastOf waits until the pod is gone, and returns what it was last.
func (s *witness) lastOf(n *harness.Node, name string) (pod *v1.Pod) {
	s.t.Helper()
	harness.Eventually(s.t, "pod "+name+" is gone", harness.Patience, func() error {
		of := s.of(name)
		if len(of) == 0 || of[len(of)-1].kind != watch.Deleted {
			return fmt.Errorf("it has been seen %d times", len(of))
		}
		pod = of[len(of)-1].pod
		return nil
	}, n.Explain)
	return pod
}

// first returns the first sighting of a pod that cond accepts, nil when there is none.
func (s *witness) first(name string, cond func(*v1.Pod) bool) *sighting {
	for _, e := range s.of(name) {
		if cond(e.pod) {
			return &e
		}
	}
	return nil
}
