package podaccess

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestOnlyYoungContainersAreWaitedFor(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(age time.Duration, state cri.ContainerState) *cri.ContainerStatus {
		return &cri.ContainerStatus{State: state, StartedAt: now.Add(-age).UnixNano()}
	}
	for name, tc := range map[string]struct {
		status *cri.ContainerStatus
		o      v1.PodLogOptions
		want   time.Duration
	}{
		"just started":       {at(0, running), v1.PodLogOptions{}, youth},
		"started a while":    {at(700*time.Millisecond, running), v1.PodLogOptions{}, 300 * time.Millisecond},
		"a second old":       {at(youth, running), v1.PodLogOptions{}, 0},
		"old":                {at(time.Hour, running), v1.PodLogOptions{}, 0},
		"start unknown":      {&cri.ContainerStatus{State: running}, v1.PodLogOptions{}, 0},
		"starts tomorrow":    {at(-time.Hour, running), v1.PodLogOptions{}, 0},
		"has ended":          {at(0, cri.ContainerState_CONTAINER_EXITED), v1.PodLogOptions{}, 0},
		"was created":        {at(0, cri.ContainerState_CONTAINER_CREATED), v1.PodLogOptions{}, 0},
		"is followed":        {at(0, running), v1.PodLogOptions{Follow: true}, 0},
		"its last lines":     {at(0, running), v1.PodLogOptions{TailLines: ptr.To[int64](5)}, youth},
		"none of its lines":  {at(0, running), v1.PodLogOptions{TailLines: ptr.To[int64](0)}, 0},
		"nothing is there":   {nil, v1.PodLogOptions{}, 0},
		"one stream of both": {at(0, running), v1.PodLogOptions{Stream: ptr.To(v1.LogStreamStdout)}, youth},
	} {
		if got := firstOutputWithin(tc.status, &tc.o, now); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestALogReadRightAfterTheStartHasTheFirstLine(t *testing.T) {
	for name, begin := range map[string]func(path string) error{
		"empty":       func(path string) error { return os.Truncate(path, 0) },
		"not yet":     os.Remove,
		"not watched": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			a, _, path := withLog(t)
			if err := begin(path); err != nil {
				t.Fatal(err)
			}
			if name == "not watched" {
				a.watched.Store(maxWatched)
			}
			before := a.watched.Load()
			var out bytes.Buffer
			done := make(chan struct{})
			go func() {
				defer close(done)
				a.awaitOutput(t.Context(), path, testrun.Patience)
			}()
			if before == 0 {
				testrun.Eventually(t, "the log is watched", func() bool { return a.watched.Load() == 1 })
			}
			appendTo(t, path, entry("first"))
			<-done
			if n := a.watched.Load(); n != before {
				t.Errorf("%d logs are watched", n)
			}
			if err := a.Logs(t.Context(), named("web"), &v1.PodLogOptions{Container: "c"}, &out, &out); err != nil || out.String() != "first\n" {
				t.Errorf("read %q, %v", out.String(), err)
			}
		})
	}
}

func TestNobodyWaitsForALogWithContent(t *testing.T) {
	a, _, path := withLog(t)
	a.awaitOutput(t.Context(), path, 10*testrun.Patience) // the test's deadline is shorter
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.awaitOutput(ctx, path, 10*testrun.Patience)
}

func TestLogsWaitsForTheFirstLine(t *testing.T) {
	a, f, path := withLog(t)
	// A busy machine may let the second pass in between, but not each time.
	for range 20 {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		go func() {
			for a.watched.Load() == 0 { // Logs waits for the log
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
			appendTo(t, path, entry("first"))
		}()
		f.status["new"].StartedAt = time.Now().UnixNano()
		var out bytes.Buffer
		err := a.Logs(t.Context(), named("web"), &v1.PodLogOptions{Container: "c"}, &out, &out)
		close(stop)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() == "first\n" {
			return
		}
	}
	t.Error("the first line was never waited for")
}
