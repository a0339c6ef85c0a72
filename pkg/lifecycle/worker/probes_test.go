package worker

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// verdicts are Probes whose answers the test gives. They note their calls in the
// node's history.
type verdicts struct {
	*node
	mu             sync.Mutex
	started, ready bool
	old            []v1.PodPhase // of the statuses that Sync was given
}

func (v *verdicts) note(call string, uid types.UID) {
	v.node.mu.Lock()
	defer v.node.mu.Unlock()
	v.calls = append(v.calls, call+" "+string(uid))
}

func (v *verdicts) Sync(pod *v1.Pod, _ *actual.PodStatus, last func() v1.PodStatus) {
	v.note("probe", pod.UID)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.old = append(v.old, last().Phase)
}

func (v *verdicts) Quiet(uid types.UID)  { v.note("quiet", uid) }
func (v *verdicts) Remove(uid types.UID) { v.note("unprobe", uid) }

func (v *verdicts) Started(actual.ContainerID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.started
}

func (v *verdicts) Ready(actual.ContainerID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ready
}

func (v *verdicts) Verdict(id actual.ContainerID) (started, ready, ok bool) {
	return v.Started(id), v.Ready(id), true
}

func (v *verdicts) set(started, ready bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.started, v.ready = started, ready
}

// startProbed is start with Probes.
func startProbed(t *testing.T, n *node, probes Probes, statuses Statuses) *Workers {
	w, err := New(Config{
		Cache: n, Runtime: n, Holdings: []Holding{n.volumes()}, Statuses: statuses, Clock: clock.RealClock{}, Probes: probes,
		SyncFrequency: time.Minute, HostIPs: func() []string { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, w.Run)
	return w
}

func TestProbesFollowThePodAndItsStatusFollowsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		probes := &verdicts{node: n}
		w := startProbed(t, n, probes, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		for _, is := range []struct{ started, ready bool }{{false, false}, {true, false}, {true, true}, {true, false}} {
			probes.set(is.started, is.ready)
			w.Update(Update{Kind: Sync, Pod: pod})
			synctest.Wait()
			s, _ := n.Get("1")
			if len(s.ContainerStatuses) != 1 || *s.ContainerStatuses[0].Started != is.started || s.ContainerStatuses[0].Ready != is.ready {
				t.Fatalf("statuses %+v, want started %v and ready %v", s.ContainerStatuses, is.started, is.ready)
			}
		}
		n.mu.Lock()
		n.calls = nil
		n.mu.Unlock()
		if !slices.Contains(probes.old, v1.PodRunning) {
			t.Errorf("phases of the old statuses: %q, want Running at last", probes.old)
		}
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		synctest.Wait()
		want := []string{"quiet 1", "kill 1", "unprobe 1", "teardown 1", "finish 1", "remove 1"}
		if got := n.history(); !slices.Equal(got, want) {
			t.Errorf("calls = %v, want %v", got, want)
		}
	})
}

func TestReadinessDoesNotWaitForAPodThatIsSlowToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		probes := &verdicts{node: n, started: true, ready: true}
		statuses := newStatuses(t)
		w := startProbed(t, n, probes, statuses)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Sync, Pod: pod})
		synctest.Wait()
		n.killPod = func(context.Context, *int64) error {
			time.Sleep(30 * time.Second)
			return nil
		}
		w.Update(Update{Kind: Kill, Pod: pod})
		time.Sleep(10 * time.Second)
		if s, _ := statuses.Get("1"); !s.ContainerStatuses[0].Ready {
			t.Fatalf("not ready before: %+v", s)
		}
		probes.set(true, false)
		w.Update(Update{Kind: Sync, Pod: pod})
		if s, _ := statuses.Get("1"); s.ContainerStatuses[0].Ready {
			t.Errorf("ready still: %+v", s)
		}
		time.Sleep(time.Minute)
	})
}

func newStatuses(t *testing.T) *podstatus.Manager {
	t.Helper()
	m, err := podstatus.NewManager(nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
