package loop

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
)

// preemption ends the first pod that is not critical or of a lower priority than the one that it is asked for, and writes down what it was asked.
type preemption struct{ asked []string }

func (p *preemption) Preempt(pod *v1.Pod, others, waiting []*v1.Pod) ([]worker.Update, error) {
	p.asked = append(p.asked, fmt.Sprintf("%s among %d, %d wait", pod.Name, len(others), len(waiting)))
	if len(others)+len(waiting) < 2 {
		return nil, nil // what ends is enough
	}
	for _, o := range others {
		if !pods.IsCritical(o) || o.Spec.Priority != nil && *o.Spec.Priority < ptr.Deref(pod.Spec.Priority, 0) {
			return []worker.Update{{Kind: worker.Kill, Pod: o}}, nil
		}
	}
	return nil, errors.New("nobody")
}

func critical(uid, name string) *v1.Pod {
	p := pod(uid, name)
	p.Spec.Priority = ptr.To[int32](2000000000)
	return p
}

func static(uid, name string) *v1.Pod {
	p := pod(uid, name)
	p.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceFile}
	return p
}

func (b *bench) phase(uid string, p worker.Phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known[pod(uid, "").UID] = p
}

// gone takes a pod's worker away.
func (b *bench) gone(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, uid)
}

func TestCriticalPodWaitsUntilOthersHaveEndedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI)
		b.room = 2
		b.add(pod("1", "web"), critical("2", "proxy"))
		b.add(critical("3", "dns"))
		synctest.Wait()
		want := []string{"create 1", "create 2", "kill 1"}
		if got := b.said(); !slices.Equal(got, want) {
			t.Fatalf("updates %q, want %q", got, want)
		}
		promised := func(want ...types.UID) {
			t.Helper()
			var got []types.UID
			for _, p := range b.store.Promised() {
				got = append(got, p.UID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("promised room: %q, want %q", got, want)
			}
		}
		promised("3")
		b.phase("1", worker.Terminating)
		b.add(pod("4", "late")) // gets nothing of what is promised
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := b.said(); !slices.Equal(got, want) {
			t.Fatalf("updates %q while the pod ends, want %q", got, want)
		}
		b.phase("1", worker.Terminated)
		b.add(pod("5", "later"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got, want := b.said(), append(want, "create 3"); !slices.Equal(got, want) {
			t.Errorf("updates %q, want %q", got, want)
		}
		promised()
		wantTold := []string{"dns: Pending WaitingForRoom: no room beside 2", "late: Failed OutOfpods: Pod was rejected: no room beside 3", "later: Failed OutOfpods: Pod was rejected: no room beside 2"}
		if !slices.Equal(b.told, wantTold) {
			t.Errorf("told %q, want %q", b.told, wantTold)
		}
		if b.preempted.asked[0] != "dns among 2, 0 wait" || slices.Contains(b.preempted.asked[1:], b.preempted.asked[0]) {
			t.Errorf("asked %q", b.preempted.asked)
		}
	})
}

func TestOnlyAStaticPodWaitsWithoutHope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI, pods.SourceFile)
		b.room = 2
		b.add(critical("1", "proxy"), critical("2", "dns"), critical("3", "more"), static("4", "etcd"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got, want := b.said(), []string{"create 1", "create 2"}; !slices.Equal(got, want) {
			t.Fatalf("updates %q, want %q", got, want)
		}
		prefix := "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: nobody"
		want := []string{"more: Failed UnexpectedAdmissionError: Pod was rejected: " + prefix, "etcd: Pending WaitingForRoom: no room beside 2, and nobody"}
		if !slices.Equal(b.told, want) {
			t.Errorf("told %q, want %q", b.told, want)
		}
		// It keeps nobody out, and gets room when there is some.
		b.phase("1", worker.Terminated)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got, want := b.said(), []string{"create 1", "create 2", "create 4"}; !slices.Equal(got, want) {
			t.Errorf("updates %q, want %q", got, want)
		}
	})
}

func TestPodThatIsNotWantedAnyMoreWaitsForNothing(t *testing.T) {
	for _, op := range []source.Op{source.Remove, source.Delete} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, pods.SourceAPI)
			b.room = 2
			b.add(critical("1", "proxy"), critical("2", "dns"), static("3", "etcd"))
			synctest.Wait()
			gone := static("3", "etcd")
			gone.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			b.changes <- source.Change{Op: op, Source: pods.SourceAPI, Pods: []*v1.Pod{gone}}
			b.phase("1", worker.Terminated)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if got := b.said(); slices.Contains(got, "create 3") {
				t.Errorf("updates %q", got)
			}
		})
	}
}

func TestPreemptedStaticPodWaitsForRoom(t *testing.T) {
	lower := func(uid, name string, policy v1.RestartPolicy) *v1.Pod {
		p := static(uid, name)
		p.Spec.Priority, p.Spec.RestartPolicy = ptr.To[int32](1), policy
		return p
	}
	for name, tc := range map[string]struct {
		victim  *v1.Pod
		ended   v1.PodPhase
		returns bool
	}{
		"always":                        {lower("1", "web", v1.RestartPolicyAlways), v1.PodFailed, true},
		"once only":                     {lower("1", "web", v1.RestartPolicyNever), v1.PodFailed, false},
		"had succeeded":                 {lower("1", "web", v1.RestartPolicyOnFailure), v1.PodSucceeded, false},
		"of the API server":             {pod("1", "web"), v1.PodFailed, false},
		"on failure, and it has failed": {lower("1", "web", v1.RestartPolicyOnFailure), v1.PodFailed, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, pods.SourceFile)
				b.room = 2
				b.add(critical("2", "proxy"), tc.victim)
				b.add(critical("3", "dns"))
				synctest.Wait()
				b.phase("1", worker.Terminating)
				time.Sleep(2 * housekeepingPeriod)
				synctest.Wait()
				want := []string{"create 2", "create 1", "kill 1"}
				if got := b.said(); !slices.Equal(got, want) {
					t.Fatalf("updates %q, want %q", got, want)
				}
				b.mu.Lock()
				b.statuses = map[types.UID]v1.PodStatus{"1": {Phase: tc.ended}}
				b.mu.Unlock()
				b.phase("1", worker.Terminated)
				time.Sleep(2 * housekeepingPeriod)
				synctest.Wait()
				got := b.said()
				if !slices.Contains(got, "create 3") || slices.Contains(got, "kill removed 1") != tc.returns {
					t.Fatalf("updates %q", got)
				}
				b.gone("1")
				time.Sleep(2 * housekeepingPeriod)
				synctest.Wait()
				if waits := slices.Contains(b.told, "web: Pending WaitingForRoom: no room beside 2, and nobody"); waits != tc.returns {
					t.Fatalf("told %q", b.told)
				}
				b.phase("3", worker.Terminated)
				time.Sleep(2 * housekeepingPeriod)
				synctest.Wait()
				if again := slices.Contains(b.said()[3:], "create 1"); again != tc.returns {
					t.Errorf("updates %q", b.said())
				}
			})
		})
	}
}

func TestPodThatHasNotBegunIsPreemptedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI)
		b.room = 2
		b.add(critical("2", "proxy"), pod("1", "web"))
		synctest.Wait()
		b.phase("1", worker.Waiting) // it was removed, and wanted again before it had ended
		b.add(critical("3", "dns"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want := []string{"create 2", "create 1", "kill removed 1"}
		if got := b.said(); !slices.Equal(got, want) {
			t.Fatalf("updates %q, want %q", got, want)
		}
		b.gone("1")
		time.Sleep(2 * housekeepingPeriod)
		synctest.Wait()
		if got, want := b.said(), append(want, "create 3"); !slices.Equal(got, want) {
			t.Errorf("updates %q, want %q", got, want)
		}
		wantTold := []string{"dns: Pending WaitingForRoom: no room beside 2", "web: Failed OutOfpods: Pod was rejected: no room beside 2"}
		if !slices.Equal(b.told, wantTold) {
			t.Errorf("told %q, want %q", b.told, wantTold)
		}
	})
}

// What an earlier agent has started counts before anything else is judged, in whatever order the pods are listed.
func TestWhatRunsHasItsRoomWhenTheAgentStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		b.room = 1
		b.view = []*actual.Pod{{UID: "2", Name: "b", Namespace: "default", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{static("1", "a"), static("2", "b")}}
		synctest.Wait()
		if got, want := b.said(), []string{"create 2"}; !slices.Equal(got, want) {
			t.Errorf("updates %q, want %q", got, want)
		}
	})
}

// Room that is made for one pod is not for another that has waited longer, without a promise.
func TestWhatIsPromisedIsNotForWhoWaitsLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		b.room = 2
		low := static("1", "low")
		low.Spec.Priority = ptr.To[int32](100)
		other := critical("2", "other")
		other.Annotations = low.Annotations
		b.add(low, other)
		b.add(static("3", "waits")) // in vain: nobody has less priority than none
		synctest.Wait()
		urgent := critical("4", "urgent")
		urgent.Annotations = low.Annotations
		b.add(urgent)
		synctest.Wait()
		if got, want := b.said(), []string{"create 1", "create 2", "kill 1"}; !slices.Equal(got, want) {
			t.Fatalf("updates %q, want %q", got, want)
		}
		b.phase("1", worker.Terminated)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := b.said(); !slices.Contains(got, "create 4") || slices.Contains(got, "create 3") {
			t.Errorf("updates %q, want the room for the pod that it was made for", got)
		}
	})
}
