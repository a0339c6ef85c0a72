package worker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

func TestPodIsFinishedOnceItsVolumesAreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		busy := true
		n.tearDown = func() error {
			if busy {
				return errors.New("device busy")
			}
			return nil
		}
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		w.Update(Update{Kind: Kill, Pod: pod})
		synctest.Wait()
		if calls := n.history(); slices.Contains(calls, "finish 1") || !slices.Contains(calls, "teardown 1") {
			t.Fatalf("calls = %v, want no finish while volumes are mounted", calls)
		}
		busy = false
		w.Update(Update{Kind: Sync, Pod: pod})
		synctest.Wait()
		if calls := n.history(); calls[len(calls)-1] != "finish 1" {
			t.Errorf("calls = %v, want finish at the end", calls)
		}
		// It is deleted later: its end is told again, of the deleted object.
		now := metav1.Now()
		gone := pod.DeepCopy()
		gone.DeletionTimestamp = &now
		w.Update(Update{Kind: Kill, Pod: gone})
		synctest.Wait()
		count := 0
		for _, c := range n.history() {
			if c == "finish 1" {
				count++
			}
		}
		if count != 2 {
			t.Errorf("finished %d times, want once more after the deletion", count)
		}
	})
}

func TestStatusOfTheAPIServerCountsBeforeTheFirstOwnOne(t *testing.T) {
	began := metav1.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ended := []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}}}
	tests := []struct {
		name   string
		static bool
		api    v1.PodStatus
		known  bool
		want   v1.PodPhase
		reason string
		syncs  bool
	}{
		{"a pod that has succeeded is not started again", false, v1.PodStatus{Phase: v1.PodSucceeded, StartTime: &began}, true, v1.PodSucceeded, "", false},
		{"nor one that has failed", false, v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted", StartTime: &began}, true, v1.PodFailed, "Evicted", false},
		{"one that ran goes on and keeps its start time", false, v1.PodStatus{Phase: v1.PodRunning, StartTime: &began}, true, v1.PodPending, "", true},
		{"one that is not known begins", false, v1.PodStatus{}, false, v1.PodPending, "", true},
		{"a static pod whose containers have ended is not started again", true, v1.PodStatus{Phase: v1.PodSucceeded, StartTime: &began, ContainerStatuses: ended}, true, v1.PodSucceeded, "", false},
		{"one whose mirror says that it was turned away begins", true, v1.PodStatus{Phase: v1.PodFailed, Reason: "NodePorts", StartTime: &began}, true, v1.PodPending, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.recall = func(*v1.Pod) (v1.PodStatus, bool) { return *tt.api.DeepCopy(), tt.known }
				w := start(t, n)
				pod := staticPod("1", "web")
				if !tt.static {
					pod.Annotations = nil
				}
				w.Update(Update{Kind: Create, Pod: pod})
				synctest.Wait()
				if got := slices.Contains(n.history(), "sync 1"); got != tt.syncs {
					t.Errorf("started: %v, want %v", got, tt.syncs)
				}
				s, _ := n.Get("1")
				if s.Phase != tt.want || s.Reason != tt.reason {
					t.Errorf("status = %s %q, want %s %q", s.Phase, s.Reason, tt.want, tt.reason)
				}
				if tt.known && !s.StartTime.Equal(&began) {
					t.Errorf("start time = %v, want that of the API server", s.StartTime)
				}
				if !tt.syncs {
					if p, _ := w.Known("1"); p != Terminated {
						t.Errorf("phase = %v, want terminated", p)
					}
				}
			})
		})
	}
}

func TestForeignConditionsAreReadAtTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		open := v1.ConditionFalse
		n.recall = func(*v1.Pod) (v1.PodStatus, bool) {
			return v1.PodStatus{Phase: v1.PodPending, Conditions: []v1.PodCondition{{Type: "example.com/gate", Status: open}}}, true
		}
		w := start(t, n)
		pod := staticPod("1", "web")
		pod.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/gate"}}
		ready := func() v1.ConditionStatus {
			s, _ := n.Get("1")
			for _, c := range s.Conditions {
				if c.Type == v1.PodReady {
					return c.Status
				}
			}
			return v1.ConditionUnknown
		}
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Sync, Pod: pod}) // its container runs now
		synctest.Wait()
		if got := ready(); got != v1.ConditionFalse {
			t.Fatalf("ready = %s behind a closed gate", got)
		}
		open = v1.ConditionTrue
		w.Update(Update{Kind: Sync, Pod: pod})
		synctest.Wait()
		if got := ready(); got != v1.ConditionTrue {
			t.Errorf("ready = %s behind an open gate", got)
		}
	})
}

func TestPodThatMayNotRunTwiceEndsWithWhatItRanIn(t *testing.T) {
	ran := v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{
		{Name: "c", ContainerID: "docker://c", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}},
		{Name: "later", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "ContainerCreating"}}},
	}}
	for policy, want := range map[v1.RestartPolicy]v1.PodPhase{v1.RestartPolicyNever: v1.PodFailed, v1.RestartPolicyOnFailure: v1.PodPending} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t)
			n.recall = func(*v1.Pod) (v1.PodStatus, bool) { return *ran.DeepCopy(), true }
			w := start(t, n)
			pod := staticPod("1", "job")
			pod.Spec.RestartPolicy = policy
			pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: "later", Image: "i"})
			w.Update(Update{Kind: Create, Pod: pod})
			synctest.Wait()
			if synced := slices.Contains(n.history(), "sync 1"); synced != (want == v1.PodPending) {
				t.Errorf("%s: started again: %v", policy, synced)
			}
			s, _ := n.Get("1")
			if s.Phase != want {
				t.Errorf("%s: the pod is %s, want %s", policy, s.Phase, want)
			}
			for _, c := range s.ContainerStatuses {
				if end := c.State.Terminated; want == v1.PodFailed && (end == nil || end.Reason != "ContainerStatusUnknown" || end.ExitCode != 137 || c.RestartCount != 0) {
					t.Errorf("%s: container %s is %+v, want lost", policy, c.Name, c)
				}
			}
		})
	}
}

func TestPodThatSomebodyEndsAtTheAPIServerIsStopped(t *testing.T) {
	for name, static := range map[string]bool{"a pod of the API server": false, "a static pod, whose mirror it is": true} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t)
			api := v1.PodStatus{Phase: v1.PodRunning}
			n.recall = func(*v1.Pod) (v1.PodStatus, bool) { return api, true }
			pulling := make(chan struct{})
			n.syncPod = func(ctx context.Context, pod *v1.Pod) kuberuntime.SyncResult {
				n.run(pod.UID, pod.Name)
				select { // a step that takes long
				case <-ctx.Done():
				case <-pulling:
				}
				return kuberuntime.SyncResult{Err: ctx.Err()}
			}
			w := start(t, n)
			pod := staticPod("1", "web")
			if !static {
				pod.Annotations = nil
			}
			w.Update(Update{Kind: Create, Pod: pod})
			synctest.Wait()
			api = v1.PodStatus{Phase: v1.PodFailed, Reason: "Stuck", Message: "said somebody"}
			if !static {
				pod = pod.DeepCopy()
				pod.Status = api
			}
			w.Update(Update{Kind: Sync, Pod: pod})
			synctest.Wait()
			if static { // nothing ends its step before its time
				close(pulling)
				synctest.Wait()
			}
			if killed := slices.Contains(n.history(), "kill 1"); killed == static {
				t.Errorf("%s: calls %v", name, n.history())
			}
			s, _ := n.Get("1")
			if ended := s.Phase == v1.PodFailed && s.Reason == "Stuck" && s.Message == "said somebody"; ended == static {
				t.Errorf("%s: is %s %q %q", name, s.Phase, s.Reason, s.Message)
			}
		})
	}
}
