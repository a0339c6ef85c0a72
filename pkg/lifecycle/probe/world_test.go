package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// world is a runtime whose commands are answered by the test, and a Manager that
// runs in a bubble's time.
type world struct {
	*Manager
	t       *testing.T
	changed chan Changed
	begun   time.Time

	mu     sync.Mutex
	answer map[string]string // command to "ok", "bad", "hang" or "broken"
	ran    []string          // "command@seconds" since the world began
	events []string
}

func newWorld(t *testing.T) *world { return newWorldWith(t, nil) }

func newWorldWith(t *testing.T, metrics prometheus.Registerer) *world {
	w := &world{t: t, changed: make(chan Changed, 100), begun: time.Now(), answer: map[string]string{}}
	m, err := New(Config{
		Exec: w, Changed: w.changed, HostIPs: func() []string { return []string{"192.0.2.1"} },
		Journal: journal.New(time.Now, w), Metrics: metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Manager = m
	testrun.Start(t, m.Run)
	return w
}

// Record keeps an event as "reason: message".
func (w *world) Record(e journal.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e.Reason+": "+e.Message)
}

func (w *world) ExecSync(ctx context.Context, r *cri.ExecSyncRequest, _ ...grpc.CallOption) (*cri.ExecSyncResponse, error) {
	w.mu.Lock()
	command := strings.Join(r.Cmd, " ")
	w.ran = append(w.ran, fmt.Sprintf("%s@%v", command, time.Since(w.begun).Seconds()))
	answer := w.answer[command]
	w.mu.Unlock()
	switch answer {
	case "bad":
		return &cri.ExecSyncResponse{ExitCode: 1, Stdout: []byte("it is "), Stderr: []byte("bad")}, nil
	case "broken":
		return nil, status.Error(codes.Unknown, "the runtime has failed")
	case "hang":
		select {
		case <-time.After(time.Duration(r.Timeout) * time.Second):
			return nil, status.Error(codes.DeadlineExceeded, "the command was killed")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &cri.ExecSyncResponse{}, nil
}

// say sets a command's result from now on.
func (w *world) say(command, answer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer[command] = answer
}

// wantRuns fails unless exactly these commands ran, at these seconds; it forgets them.
func (w *world) wantRuns(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.ran, want) {
		w.t.Errorf("ran %q, want %q", w.ran, want)
	}
	w.ran = nil
}

// wantEvents fails unless exactly these were recorded; it forgets them.
func (w *world) wantEvents(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.events, want) {
		w.t.Errorf("events %q, want %q", w.events, want)
	}
	w.events = nil
}

// verdict is what is said of a container: "started ready liveness", for example.
func (w *world) verdict(id string) string {
	synctest.Wait()
	var words []string
	c := actual.ContainerID{Runtime: "test", ID: id}
	if w.Started(c) {
		words = append(words, "started")
	}
	if w.Ready(c) {
		words = append(words, "ready")
	}
	if f := w.Failed(c); f != "" {
		words = append(words, string(f))
	}
	return strings.Join(words, " ")
}

func (w *world) wantVerdict(id, want string) {
	w.t.Helper()
	if got := w.verdict(id); got != want {
		w.t.Errorf("container %s: %q, want %q", id, got, want)
	}
}

// told returns how often a change was told of, and forgets it.
func (w *world) told() int {
	synctest.Wait()
	n := 0
	for len(w.changed) > 0 {
		<-w.changed
		n++
	}
	return n
}

// after lets time pass, so that what is then due happens.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func command(name string, change ...func(*v1.Probe)) *v1.Probe {
	p := &v1.Probe{
		ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{name}}},
		PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func podOf(c v1.Container) *v1.Pod {
	c.Name = "c"
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Name: "p", Namespace: "n"}, Spec: v1.PodSpec{Containers: []v1.Container{c}}}
}

// nothing is known of a pod.
func nothing() v1.PodStatus { return v1.PodStatus{} }

// runs is the status of a pod whose container c runs with that ID since then.
func runs(id string, since time.Time) *actual.PodStatus {
	return &actual.PodStatus{UID: "u", IPs: []string{"10.0.0.1"}, Containers: []*actual.ContainerStatus{
		{ID: actual.ContainerID{Runtime: "test", ID: id}, Name: "c", State: actual.StateRunning, StartedAt: since},
	}}
}
