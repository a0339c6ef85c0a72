package agent

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAnnouncerSaysEachStateOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		pod := &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{UID: "1", Namespace: "default", Name: "web-n1"},
			Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c"}}},
		}
		pods := []*v1.Pod{pod}
		var out bytes.Buffer
		changed := make(chan struct{})
		a := &announcer{out: &out, changed: changed, node: "n1", look: []string{"mini-kubelet pods"},
			pods: func() []*v1.Pod { mu.Lock(); defer mu.Unlock(); return pods }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.run(ctx) }()
		changed <- struct{}{}
		mu.Lock()
		running := pod.DeepCopy()
		running.Status = v1.PodStatus{Phase: v1.PodRunning, PodIP: "172.17.0.2", ContainerStatuses: []v1.ContainerStatus{{Name: "c", Ready: true}}}
		pods = []*v1.Pod{running}
		mu.Unlock()
		changed <- struct{}{}
		changed <- struct{}{}
		mu.Lock()
		pods = nil
		mu.Unlock()
		changed <- struct{}{}
		synctest.Wait()
		cancel()
		<-done
		want := `mini-kubelet runs the pods of node n1. Ctrl-C stops it and leaves them running.
pod default/web-n1 is Pending
pod default/web-n1 is Running, IP 172.17.0.2, 1 of 1 containers ready
To look further, in another terminal:
  mini-kubelet pods
pod default/web-n1 is gone
`
		if out.String() != want {
			t.Errorf("said:\n%s\nwant:\n%s", out.String(), want)
		}
	})
}

func TestDescribeNamesTheReasonForWaiting(t *testing.T) {
	p := &v1.Pod{Status: v1.PodStatus{Phase: v1.PodPending, ContainerStatuses: []v1.ContainerStatus{
		{Name: "c", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
	}}}
	if got := describe(p); !strings.Contains(got, "container c waits: ImagePullBackOff") {
		t.Errorf("describe() = %q", got)
	}
}

func TestTheAnnouncerSaysNothingThatATerminalObeys(t *testing.T) {
	var out bytes.Buffer
	a := &announcer{out: &out, node: "n1", pods: func() []*v1.Pod {
		return []*v1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Status: v1.PodStatus{Reason: "No", Message: "\x1b[2J\npod x is Running"}}}
	}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.run(ctx); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\x1b") || strings.Contains(out.String(), "\npod x") {
		t.Errorf("said %q", out.String())
	}
}

func TestLockIsExclusiveUntilUnlocked(t *testing.T) {
	root := t.TempDir()
	unlock, err := lock(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(t.Context(), root); err == nil {
		t.Fatal("a second lock of the same root succeeded")
	}
	unlock()
	unlock, err = lock(t.Context(), root)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	unlock()
}
