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
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

func TestNextLook(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, tc := range map[string]struct {
		o    outcome
		want time.Duration
	}{
		"nothing in sight":      {outcome{}, time.Minute},
		"back-off ends":         {outcome{retryAfter: 5 * time.Second}, 5 * time.Second},
		"back-off ends late":    {outcome{retryAfter: time.Hour}, time.Minute},
		"deadline":              {outcome{deadline: now.Add(7 * time.Second)}, 7 * time.Second},
		"deadline far away":     {outcome{deadline: now.Add(time.Hour)}, time.Minute},
		"back-off, deadline":    {outcome{retryAfter: 5 * time.Second, deadline: now.Add(7 * time.Second)}, 5 * time.Second},
		"deadline, back-off":    {outcome{retryAfter: 9 * time.Second, deadline: now.Add(7 * time.Second)}, 7 * time.Second},
		"failed, deadline":      {outcome{err: errors.New("no"), deadline: now.Add(7 * time.Second)}, 7 * time.Second},
		"failed with a retry":   {outcome{err: errors.New("no"), retryAfter: time.Second}, time.Minute},
		"deadline has gone by":  {outcome{deadline: now.Add(-time.Second)}, -time.Second},
		"deadline at this time": {outcome{deadline: now}, 0},
	} {
		if got := tc.o.next(now, time.Minute).Sub(now); got != tc.want {
			t.Errorf("%s: in %v, want %v", name, got, tc.want)
		}
	}
}

func limited(seconds int64) *v1.Pod {
	p := staticPod("1", "job")
	p.Spec.ActiveDeadlineSeconds = &seconds
	return p
}

// failed waits for the workers and fails unless the pod failed because of its
// deadline.
func failed(t *testing.T, n *node) {
	t.Helper()
	synctest.Wait()
	s, _ := n.Get("1")
	if s.Phase != v1.PodFailed || s.Reason != podstatus.DeadlineExceeded || s.Message != podstatus.DeadlineExceededMessage {
		t.Errorf("phase %s, reason %q, message %q", s.Phase, s.Reason, s.Message)
	}
	if !slices.Contains(n.history(), "kill 1") {
		t.Errorf("not killed: %v", n.history())
	}
	toldOfDeadline(t, n, 1)
}

func toldOfDeadline(t *testing.T, n *node, times int) {
	t.Helper()
	if got, want := n.told(), slices.Repeat([]string{podstatus.DeadlineExceeded + ": " + podstatus.DeadlineExceededMessage}, times); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestADeadlineIsToldOfAPodThatNeverRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.syncPod = func(context.Context, *v1.Pod) kuberuntime.SyncResult {
			return kuberuntime.SyncResult{Waiting: map[string]actual.Waiting{"c": {Reason: "ImagePullBackOff"}}, RetryAfter: time.Hour}
		}
		w := start(t, n)
		w.Update(Update{Kind: Create, Pod: limited(20)})
		synctest.Wait()
		time.Sleep(20 * time.Second)
		w.Update(Update{Kind: Sync, Pod: limited(20)})
		synctest.Wait()
		if s, _ := n.Get("1"); s.Phase != v1.PodFailed || s.Reason != podstatus.DeadlineExceeded {
			t.Errorf("phase %s, reason %q", s.Phase, s.Reason)
		}
		toldOfDeadline(t, n, 1)
	})
}

func TestADeadlineThatAnEarlierAgentToldOfIsNotToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		began := metav1.Now()
		n.recall = func(*v1.Pod) (v1.PodStatus, bool) {
			return v1.PodStatus{Phase: v1.PodFailed, Reason: podstatus.DeadlineExceeded, Message: podstatus.DeadlineExceededMessage, StartTime: &began}, true
		}
		time.Sleep(time.Minute)
		w := start(t, n)
		pod := limited(20)
		pod.Annotations = nil // a static pod's deadline is judged again
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		if s, _ := n.Get("1"); s.Phase != v1.PodFailed {
			t.Errorf("phase %s", s.Phase)
		}
		toldOfDeadline(t, n, 0)
	})
}

func TestPodIsKilledAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		w := start(t, n)
		w.Update(Update{Kind: Create, Pod: limited(20)})
		synctest.Wait()
		time.Sleep(19 * time.Second)
		if due := w.Due(time.Now()); len(due) > 0 {
			t.Errorf("due before its deadline: %v", due)
		}
		w.Update(Update{Kind: Sync, Pod: limited(20)}) // does not move it
		synctest.Wait()
		time.Sleep(time.Second)
		if due := w.Due(time.Now()); !slices.Contains(due, "1") {
			t.Fatal("not due at its deadline")
		}
		w.Update(Update{Kind: Sync, Pod: limited(20)})
		failed(t, n)
	})
}

func TestDeadlineThatIsLoweredCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		seconds *int64
		due     time.Duration
	}{
		"to the future": {ptr.To[int64](15), 5 * time.Second},
		"to the past":   {ptr.To[int64](5), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				w := start(t, n)
				w.Update(Update{Kind: Create, Pod: staticPod("1", "job")})
				synctest.Wait()
				time.Sleep(10 * time.Second)
				w.Update(Update{Kind: Change, Pod: limited(*tc.seconds)})
				synctest.Wait()
				if tc.due > 0 {
					time.Sleep(tc.due)
					if due := w.Due(time.Now()); !slices.Contains(due, "1") {
						t.Fatal("not due at its new deadline")
					}
					w.Update(Update{Kind: Sync, Pod: limited(*tc.seconds)})
				}
				failed(t, n)
			})
		})
	}
}

func TestWhatTakesLongEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.syncPod = func(ctx context.Context, pod *v1.Pod) kuberuntime.SyncResult {
			n.run(pod.UID, pod.Name) // its first container; the image of the second takes long
			<-ctx.Done()
			return kuberuntime.SyncResult{Err: ctx.Err()}
		}
		w := start(t, n)
		begun := time.Now()
		w.Update(Update{Kind: Create, Pod: limited(20)})
		time.Sleep(19 * time.Second)
		synctest.Wait()
		if h := n.history(); slices.Contains(h, "kill 1") {
			t.Errorf("killed after %v: %v", time.Since(begun), h)
		}
		time.Sleep(time.Second)
		failed(t, n)
	})
}
