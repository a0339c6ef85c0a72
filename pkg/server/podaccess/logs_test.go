package podaccess

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

func isRunning() v1.ContainerState {
	return v1.ContainerState{Running: &v1.ContainerStateRunning{}}
}

func ended(id string) v1.ContainerState {
	return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ContainerID: id}}
}

func waiting(reason string) v1.ContainerState {
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason}}
}

func TestWhoseLogIsMeant(t *testing.T) {
	tests := []struct {
		name     string
		status   v1.ContainerStatus
		previous bool
		id, err  string
	}{
		{"running", v1.ContainerStatus{State: isRunning(), ContainerID: "docker://now"}, false, "now", ""},
		{"running, the one before", v1.ContainerStatus{State: isRunning(), ContainerID: "docker://now", LastTerminationState: ended("docker://before")}, true, "before", ""},
		{"none before", v1.ContainerStatus{State: isRunning(), ContainerID: "docker://now"}, true, "", `previous terminated container "c" in pod "p" not found`},
		{"the one before is not known", v1.ContainerStatus{State: isRunning(), LastTerminationState: ended("")}, true, "", `previous terminated container "c" in pod "p" not found`},
		{"ended", v1.ContainerStatus{State: ended("docker://now"), LastTerminationState: ended("docker://before")}, false, "now", ""},
		{"ended without having been made", v1.ContainerStatus{State: ended(""), LastTerminationState: ended("docker://before")}, false, "before", ""},
		{"ended without a trace", v1.ContainerStatus{State: ended("")}, false, "", `container "c" in pod "p" is terminated`},
		{"waits for its next attempt", v1.ContainerStatus{State: waiting("CrashLoopBackOff"), LastTerminationState: ended("docker://before")}, false, "before", ""},
		{"waits, the last without a trace", v1.ContainerStatus{State: waiting("CrashLoopBackOff"), LastTerminationState: ended("")}, false, "", `container "c" in pod "p" is terminated`},
		{"is being made", v1.ContainerStatus{State: waiting("ContainerCreating")}, false, "", `container "c" in pod "p" is waiting to start: ContainerCreating`},
		{"image cannot be pulled", v1.ContainerStatus{State: waiting("ErrImagePull")}, false, "", `container "c" in pod "p" is waiting to start: image can't be pulled`},
		{"image back-off", v1.ContainerStatus{State: waiting("ImagePullBackOff")}, false, "", `container "c" in pod "p" is waiting to start: trying and failing to pull image`},
		{"nothing is known", v1.ContainerStatus{}, false, "", `container "c" in pod "p" is waiting to start - no logs yet`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.status.Name = "c"
			lists := []v1.PodStatus{
				{ContainerStatuses: []v1.ContainerStatus{{Name: "other"}, tt.status}},
				{InitContainerStatuses: []v1.ContainerStatus{tt.status}},
				{EphemeralContainerStatuses: []v1.ContainerStatus{tt.status}},
			}
			for _, s := range lists {
				id, err := logged("p", &s, "c", tt.previous)
				if tt.err != "" {
					if err == nil || err.Error() != tt.err {
						t.Errorf("%v, want %s", err, tt.err)
					}
				} else if err != nil || id.ID != tt.id {
					t.Errorf("%v, %v, want %s", id, err, tt.id)
				}
			}
		})
	}
	if _, err := logged("p", &v1.PodStatus{}, "c", false); err == nil || err.Error() != `container "c" in pod "p" is not available` {
		t.Errorf("without a status: %v", err)
	}
}

func TestSince(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		o    v1.PodLogOptions
		want time.Time
	}{
		{v1.PodLogOptions{}, time.Time{}},
		{v1.PodLogOptions{SinceSeconds: ptr.To[int64](5)}, now.Add(-5 * time.Second)},
		{v1.PodLogOptions{SinceTime: &metav1.Time{Time: now}}, now},
	} {
		if got := since(&tt.o, now); !got.Equal(tt.want) {
			t.Errorf("%v: %v", tt.o, got)
		}
	}
}

const lines = "2026-01-02T03:04:05.000000000Z stdout F one\n2026-01-02T03:04:06.000000000Z stderr F two\n2026-01-02T03:04:07.000000000Z stdout F three\n"

// withLog gives web's container c, which is running, a log of three lines.
func withLog(t *testing.T) (a *Access, f *fakeCRI, path string) {
	t.Helper()
	a, f = newAccess(t)
	path = filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	f.status = map[string]*cri.ContainerStatus{"new": {Id: "new", State: running, LogPath: path}}
	a.cfg.Statuses = statuses{"u1": {ContainerStatuses: []v1.ContainerStatus{{Name: "c", State: isRunning(), ContainerID: "docker://new"}}}}
	return a, f, path
}

func TestLogs(t *testing.T) {
	since := metav1.Time{Time: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)}
	tests := []struct {
		name        string
		o           v1.PodLogOptions
		out, errout string
	}{
		{"all", v1.PodLogOptions{}, "one\nthree\n", "two\n"},
		{"tail", v1.PodLogOptions{TailLines: ptr.To[int64](1)}, "three\n", ""},
		{"no lines", v1.PodLogOptions{TailLines: ptr.To[int64](0)}, "", ""},
		{"some bytes", v1.PodLogOptions{LimitBytes: ptr.To[int64](6)}, "one\n", "tw"},
		{"since", v1.PodLogOptions{SinceTime: &since}, "three\n", "two\n"},
		{"timestamps", v1.PodLogOptions{TailLines: ptr.To[int64](1), Timestamps: true}, "2026-01-02T03:04:07.000000000Z three\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _, _ := withLog(t)
			tt.o.Container = "c"
			var out, errout bytes.Buffer
			if err := a.Logs(t.Context(), named("web"), &tt.o, &out, &errout); err != nil || out.String() != tt.out || errout.String() != tt.errout {
				t.Errorf("%q %q, %v", out.String(), errout.String(), err)
			}
		})
	}
	a, _, _ := withLog(t)
	var errout bytes.Buffer
	if err := a.Logs(t.Context(), named("web"), &v1.PodLogOptions{Container: "c"}, nil, &errout); err != nil || errout.String() != "two\n" {
		t.Errorf("one stream: %q, %v", errout.String(), err)
	}
}

func TestLogsThatCannotBeHad(t *testing.T) {
	a, f, path := withLog(t)
	ask := func(pod, container string) error {
		return a.Logs(t.Context(), named(pod), &v1.PodLogOptions{Container: container}, io.Discard, io.Discard)
	}
	if err := ask("db", "c"); status.Code(err) != codes.NotFound {
		t.Errorf("unknown pod: %v", err)
	}
	if err := ask("web", "x"); status.Code(err) != codes.NotFound || status.Convert(err).Message() != `container "x" not found in pod "web"` {
		t.Errorf("unknown container: %v", err)
	}
	if err := ask("web", "init"); err == nil || err.Error() != `container "init" in pod "web" is not available` {
		t.Errorf("no status yet: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := ask("web", "c"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
	f.status["new"].LogPath = ""
	if err := ask("web", "c"); err == nil {
		t.Error("no path: no error")
	}
	delete(f.status, "new")
	if err := ask("web", "c"); status.Code(err) == codes.NotFound || err == nil || err.Error() != "unable to retrieve container logs for docker://new: no container new" {
		t.Errorf("removed: %v", err)
	}
}

// TestLogThatIsNone: a pod with a hostPath can reach the logs of all pods.
func TestLogThatIsNone(t *testing.T) {
	var a *Access
	place := func(t *testing.T) (path string) {
		a, _, path = withLog(t)
		return path
	}
	safefiletest.Each(t, place, func(t *testing.T, what, _ string) {
		want := ""
		if what == safefiletest.Grown {
			want = "one\ntwo\nthree\n" // up to where it is not a log
		}
		var out bytes.Buffer
		err := a.Logs(t.Context(), named("web"), &v1.PodLogOptions{Container: "c"}, &out, &out)
		if err == nil || out.String() != want {
			t.Errorf("%q, %v", out.String(), err)
		}
		out.Reset()
		err = a.Logs(t.Context(), named("web"), &v1.PodLogOptions{Container: "c", TailLines: ptr.To[int64](1)}, &out, &out)
		if err == nil || out.Len() > 0 {
			t.Errorf("its tail: %q, %v", out.String(), err)
		}
	})
}

// A static pod's status is kept under its own UID, not under its mirror's.
func TestLogsOfAMirrorPodAreTheStaticPods(t *testing.T) {
	a, f, path := withLog(t)
	f.status["static"] = &cri.ContainerStatus{LogPath: path}
	a.cfg.Statuses = statuses{"s1": {ContainerStatuses: []v1.ContainerStatus{{Name: "c", State: isRunning(), ContainerID: "docker://static"}}}}
	var out bytes.Buffer
	if err := a.Logs(t.Context(), named("static-n1"), &v1.PodLogOptions{Container: "c"}, &out, nil); err != nil || out.String() != "one\nthree\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// collected is what a follower has been given so far.
type collected struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (c *collected) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.text.Write(p)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (c *collected) waitFor(t *testing.T, text string) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		c.mu.Lock()
		got := c.text.String()
		c.mu.Unlock()
		if got == text {
			return
		}
		select {
		case <-c.more:
		case <-limit:
			t.Fatalf("followed %q, want %q", got, text)
		}
	}
}

func TestFollowing(t *testing.T) {
	a, f, path := withLog(t)
	var mu sync.Mutex
	state := actual.StateRunning
	a.cfg.Cache = &cache{status: func() (*actual.PodStatus, error) {
		mu.Lock()
		defer mu.Unlock()
		return &actual.PodStatus{Containers: []*actual.ContainerStatus{{ID: actual.ContainerID{Runtime: "docker", ID: "new"}, State: state}}}, nil
	}}
	out, done := &collected{more: make(chan struct{}, 1)}, make(chan error, 1)
	go func() {
		done <- a.Logs(t.Context(), named("web"), &v1.PodLogOptions{Container: "c", Follow: true}, out, out)
	}()
	out.waitFor(t, "one\ntwo\nthree\n")
	appendTo(t, path, "2026-01-02T03:04:08.000000000Z stdout F four\n")
	out.waitFor(t, "one\ntwo\nthree\nfour\n")

	// Rotation: the file is renamed, and the runtime starts another.
	if err := os.Rename(path, path+".20260102"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path, "2026-01-02T03:04:09.000000000Z stdout F five\n")
	out.waitFor(t, "one\ntwo\nthree\nfour\nfive\n")

	appendTo(t, path, "2026-01-02T03:04:10.000000000Z stdout F six\n")
	mu.Lock()
	state = actual.StateExited
	mu.Unlock()
	if err := <-done; err != nil {
		t.Errorf("at the container's end: %v", err)
	}
	out.waitFor(t, "one\ntwo\nthree\nfour\nfive\nsix\n")
	if f.asked != 1 {
		t.Errorf("the runtime was asked for the status %d times, want once", f.asked)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestFollowingEndsWithItsClient(t *testing.T) {
	a, _, _ := withLog(t)
	a.cfg.Cache = &cache{status: func() (*actual.PodStatus, error) { return &actual.PodStatus{}, nil }}
	ctx, cancel := context.WithCancel(t.Context())
	out, done := &collected{more: make(chan struct{}, 1)}, make(chan error, 1)
	go func() {
		done <- a.Logs(ctx, named("web"), &v1.PodLogOptions{Container: "c", Follow: true}, out, out)
	}()
	out.waitFor(t, "one\ntwo\nthree\n")
	cancel()
	if err := <-done; err == nil {
		t.Error("no error says that the log's end was not reached")
	}
}

func TestWhetherAFollowedContainerRuns(t *testing.T) {
	seen := func(s actual.State) func() (*actual.PodStatus, error) {
		return func() (*actual.PodStatus, error) {
			return &actual.PodStatus{Containers: []*actual.ContainerStatus{{ID: actual.ContainerID{ID: "new"}, State: s}}}, nil
		}
	}
	failed := func() (*actual.PodStatus, error) { return nil, errors.New("relist") }
	tests := []struct {
		name  string
		cache func() (*actual.PodStatus, error)
		cri   error
		want  bool
		asked int
	}{
		{"seen running", seen(actual.StateRunning), nil, true, 0},
		{"seen exited", seen(actual.StateExited), nil, false, 0},
		{"seen created only", seen(actual.StateCreated), nil, true, 1},
		{"not seen yet", func() (*actual.PodStatus, error) { return &actual.PodStatus{}, nil }, nil, true, 1},
		{"looking failed", failed, nil, true, 1},
		{"no look yet", nil, nil, true, 1},
		{"seen created only, and ended", seen(actual.StateCreated), status.Error(codes.NotFound, "gone"), false, 1},
		{"the runtime is away", failed, status.Error(codes.Unavailable, "restarting"), true, 1},
		{"removed", failed, status.Error(codes.NotFound, "gone"), false, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, f, _ := withLog(t)
			f.statusErr = tt.cri
			a.cfg.Cache = &cache{status: tt.cache}
			runs, err := follower{access: a, pod: types.UID("u1"), id: "new"}.running(t.Context())
			if err != nil || runs != tt.want || f.asked != tt.asked {
				t.Errorf("%v, %v, asked %d times", runs, err, f.asked)
			}
		})
	}
	a, f, _ := withLog(t)
	f.statusErr = status.Error(codes.Internal, "no")
	a.cfg.Cache = &cache{status: failed}
	if runs, err := (follower{access: a, pod: "u1", id: "new"}).running(t.Context()); runs || status.Code(err) != codes.Internal {
		t.Errorf("%v, %v: following is no use when the runtime cannot tell", runs, err)
	}
}
