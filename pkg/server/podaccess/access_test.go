package podaccess

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// fakeCRI has containers and sandboxes, and records the last request to each.
type fakeCRI struct {
	containers []*cri.Container
	sandboxes  []*cri.PodSandbox
	status     map[string]*cri.ContainerStatus
	statusErr  error
	asked      int // how often for a status
	exec       *cri.ExecRequest
	attach     *cri.AttachRequest
	forward    *cri.PortForwardRequest
	sync       *cri.ExecSyncRequest
	result     *cri.ExecSyncResponse
	err        error
	url        string

	checkpoints  string // the directory
	checkpointed *cri.CheckpointContainerRequest
}

func matches(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (f *fakeCRI) ListContainers(_ context.Context, r *cri.ListContainersRequest, _ ...grpc.CallOption) (*cri.ListContainersResponse, error) {
	out := &cri.ListContainersResponse{}
	for _, c := range f.containers {
		if c.State == r.Filter.State.State && matches(c.Labels, r.Filter.LabelSelector) {
			out.Containers = append(out.Containers, c)
		}
	}
	return out, f.err
}

func (f *fakeCRI) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest, _ ...grpc.CallOption) (*cri.ListPodSandboxResponse, error) {
	out := &cri.ListPodSandboxResponse{}
	for _, s := range f.sandboxes {
		if s.State == r.Filter.State.State && matches(s.Labels, r.Filter.LabelSelector) {
			out.Items = append(out.Items, s)
		}
	}
	return out, f.err
}

func (f *fakeCRI) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest, _ ...grpc.CallOption) (*cri.ContainerStatusResponse, error) {
	f.asked++
	if f.statusErr != nil {
		return nil, f.statusErr
	}
	s, ok := f.status[r.ContainerId]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no container %s", r.ContainerId)
	}
	return &cri.ContainerStatusResponse{Status: s}, nil
}

func (f *fakeCRI) ExecSync(_ context.Context, r *cri.ExecSyncRequest, _ ...grpc.CallOption) (*cri.ExecSyncResponse, error) {
	f.sync = r
	return f.result, nil
}

func (f *fakeCRI) Exec(_ context.Context, r *cri.ExecRequest, _ ...grpc.CallOption) (*cri.ExecResponse, error) {
	f.exec = r
	return &cri.ExecResponse{Url: f.url}, nil
}

func (f *fakeCRI) Attach(_ context.Context, r *cri.AttachRequest, _ ...grpc.CallOption) (*cri.AttachResponse, error) {
	f.attach = r
	return &cri.AttachResponse{Url: f.url}, nil
}

func (f *fakeCRI) CheckpointContainer(_ context.Context, r *cri.CheckpointContainerRequest, _ ...grpc.CallOption) (*cri.CheckpointContainerResponse, error) {
	f.checkpointed = r
	return &cri.CheckpointContainerResponse{}, os.WriteFile(r.Location, nil, 0o600)
}

func (f *fakeCRI) PortForward(_ context.Context, r *cri.PortForwardRequest, _ ...grpc.CallOption) (*cri.PortForwardResponse, error) {
	f.forward = r
	return &cri.PortForwardResponse{Url: f.url}, nil
}

type statuses map[types.UID]v1.PodStatus

func (s statuses) Get(uid types.UID) (v1.PodStatus, bool) {
	got, ok := s[uid]
	return got, ok
}

// cache is one pod's status as PLEG sees it; nil: it has not looked yet.
type cache struct {
	pods   []*actual.Pod
	status func() (*actual.PodStatus, error)
}

func (c *cache) Pods() []*actual.Pod { return c.pods }

func (c *cache) GetNewerThan(ctx context.Context, uid types.UID, _ time.Time) (*actual.PodStatus, error) {
	if c.status == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return c.status()
}

func pod(name, uid string, annotations map[string]string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), Annotations: annotations},
		Spec: v1.PodSpec{
			Containers:          []v1.Container{{Name: "c"}, {Name: "tty", TTY: true}},
			InitContainers:      []v1.Container{{Name: "init"}},
			EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", TTY: true}}},
		},
	}
}

func container(id, uid, name string, created int64, state cri.ContainerState) *cri.Container {
	return &cri.Container{Id: id, CreatedAt: created, State: state, Labels: map[string]string{
		"io.kubernetes.pod.uid": uid, "io.kubernetes.container.name": name,
	}}
}

const (
	running = cri.ContainerState_CONTAINER_RUNNING
	exited  = cri.ContainerState_CONTAINER_EXITED
)

// newAccess knows a pod from the API server, web, and a static pod with its mirror,
// static-n1. web's container c has been restarted.
func newAccess(t *testing.T) (*Access, *fakeCRI) {
	t.Helper()
	store := podstore.New()
	store.Set(pod("web", "u1", nil))
	store.Set(pod("static-n1", "s1", map[string]string{"kubernetes.io/config.source": "file"}))
	store.Set(pod("static-n1", "m1", map[string]string{"kubernetes.io/config.mirror": "hash", "kubernetes.io/config.source": "api"}))
	f := &fakeCRI{
		url: "http://127.0.0.1:1234/token", checkpoints: filepath.Join(t.TempDir(), "checkpoints"),
		containers: []*cri.Container{
			container("old", "u1", "c", 1, exited), container("new", "u1", "c", 3, running), container("stale", "u1", "c", 2, running),
			container("terminal", "u1", "tty", 1, running), container("gone", "u1", "init", 1, exited),
			container("bug", "u1", "debug", 1, running), container("static", "s1", "c", 1, running),
		},
		sandboxes: []*cri.PodSandbox{
			{Id: "dead", CreatedAt: 9, State: cri.PodSandboxState_SANDBOX_NOTREADY, Labels: map[string]string{"io.kubernetes.pod.uid": "u1"}},
			{Id: "box", CreatedAt: 5, Labels: map[string]string{"io.kubernetes.pod.uid": "u1"}},
			{Id: "older", CreatedAt: 4, Labels: map[string]string{"io.kubernetes.pod.uid": "u1"}},
		},
	}
	a, err := New(Config{CheckpointDir: f.checkpoints, CRI: f, Pods: store, Statuses: statuses{}, Cache: &cache{}})
	if err != nil {
		t.Fatal(err)
	}
	return a, f
}

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "ns", Name: name}
}

func TestWhichContainerIsMeant(t *testing.T) {
	tests := []struct {
		name, pod, uid, container string
		id                        string // or
		err                       string
		code                      codes.Code
	}{
		{"the newest attempt that runs", "web", "", "c", "new", "", 0},
		{"by name and UID", "web", "u1", "c", "new", "", 0},
		{"an ephemeral container", "web", "", "debug", "bug", "", 0},
		{"one that has ended", "web", "", "init", "", `container not found ("init")`, codes.Unknown},
		{"one that never was", "web", "", "x", "", `container not found ("x")`, codes.Unknown},
		{"no such pod", "db", "", "c", "", `pod "db" does not exist`, codes.NotFound},
		{"another pod of that name", "web", "u2", "c", "", `pod "web" does not exist`, codes.NotFound},
		{"the UID of another pod", "web", "s1", "c", "", `pod "web" does not exist`, codes.NotFound},
		{"a static pod", "static-n1", "", "c", "static", "", 0},
		{"a static pod by its UID", "static-n1", "s1", "c", "static", "", 0},
		{"a static pod by its mirror's UID", "static-n1", "m1", "c", "static", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, f := newAccess(t)
			u, err := a.Exec(t.Context(), named(tt.pod), types.UID(tt.uid), &v1.PodExecOptions{Container: tt.container, Command: []string{"ls"}, Stdout: true})
			if tt.err != "" {
				if err == nil || status.Convert(err).Message() != tt.err || status.Code(err) != tt.code {
					t.Errorf("%v, want %v %s", err, tt.code, tt.err)
				}
				if f.exec != nil {
					t.Error("the runtime was asked")
				}
				return
			}
			if err != nil || f.exec.ContainerId != tt.id || u.String() != f.url {
				t.Errorf("%v, %v, %v", f.exec, u, err)
			}
		})
	}
}

func TestExecAsksTheRuntimeForWhatWasRequested(t *testing.T) {
	a, f := newAccess(t)
	if _, err := a.Exec(t.Context(), named("web"), "", &v1.PodExecOptions{Container: "c", Command: []string{"sh", "-c", "ls"}, Stdin: true, Stdout: true, TTY: true}); err != nil {
		t.Fatal(err)
	}
	want := &cri.ExecRequest{ContainerId: "new", Cmd: []string{"sh", "-c", "ls"}, Stdin: true, Stdout: true, Tty: true}
	if f.exec.String() != want.String() {
		t.Errorf("%v, want %v", f.exec, want)
	}
}

func TestCheckpointsAreForRootAlone(t *testing.T) {
	a, f := newAccess(t)
	path, err := a.Checkpoint(t.Context(), named("web"), "c", 7*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if r := f.checkpointed; r.ContainerId != "new" || r.Timeout != 7 || r.Location != path || filepath.Dir(path) != f.checkpoints {
		t.Errorf("the runtime is asked for %v, %s is answered", r, path)
	}
	if fi, err := os.Stat(f.checkpoints); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", fi, err)
	}
	if _, err := a.Checkpoint(t.Context(), named("web"), "init", 0); err == nil {
		t.Error("a container that has ended has a checkpoint")
	}
}

func TestAttachHasTheContainersTerminal(t *testing.T) {
	for name, want := range map[string]bool{"c": false, "tty": true, "debug": true} {
		a, f := newAccess(t)
		if _, err := a.Attach(t.Context(), named("web"), "", &v1.PodAttachOptions{Container: name, Stdout: true, TTY: !want}); err != nil {
			t.Fatal(err)
		}
		if f.attach.Tty != want || !f.attach.Stdout || f.attach.Stderr || f.attach.Stdin {
			t.Errorf("%s: %v", name, f.attach)
		}
	}
}

func TestPortForwardGoesToTheReadySandbox(t *testing.T) {
	a, f := newAccess(t)
	if _, err := a.PortForward(t.Context(), named("web"), "", &v1.PodPortForwardOptions{Ports: []int32{80}}); err != nil {
		t.Fatal(err)
	}
	if f.forward.PodSandboxId != "box" || !reflect.DeepEqual(f.forward.Port, []int32{80}) {
		t.Errorf("%v", f.forward)
	}
	if _, err := a.PortForward(t.Context(), named("static-n1"), "m1", &v1.PodPortForwardOptions{}); err == nil || err.Error() != `pod not running ("ns/static-n1")` {
		t.Errorf("a pod without a sandbox: %v", err)
	}
}

// The clock may have been set back between two attempts.
func TestTheLaterAttemptIsMeant(t *testing.T) {
	a, f := newAccess(t)
	for _, c := range f.containers {
		c.Metadata = &cri.ContainerMetadata{Attempt: map[string]uint32{"stale": 2}[c.Id]}
	}
	for _, s := range f.sandboxes {
		s.Metadata = &cri.PodSandboxMetadata{Attempt: map[string]uint32{"older": 1}[s.Id]}
	}
	if _, err := a.Exec(t.Context(), named("web"), "", &v1.PodExecOptions{Container: "c"}); err != nil || f.exec.ContainerId != "stale" {
		t.Errorf("exec: %v, %v", f.exec, err)
	}
	if _, err := a.PortForward(t.Context(), named("web"), "", &v1.PodPortForwardOptions{}); err != nil || f.forward.PodSandboxId != "older" {
		t.Errorf("port-forward: %v, %v", f.forward, err)
	}
}

func TestRun(t *testing.T) {
	a, f := newAccess(t)
	f.result = &cri.ExecSyncResponse{Stdout: []byte("out"), Stderr: []byte("err")}
	if out, err := a.Run(t.Context(), named("web"), "", "c", []string{"ls"}); err != nil || string(out) != "outerr" || f.sync.ContainerId != "new" {
		t.Errorf("%q, %v, %v", out, err, f.sync)
	}
	f.result.ExitCode = 3
	if out, err := a.Run(t.Context(), named("web"), "", "c", []string{"ls", "-l"}); err == nil || status.Convert(err).Message() != "command 'ls -l' exited with 3: outerr" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestARuntimeThatDoesNotHelpIsAnError(t *testing.T) {
	a, f := newAccess(t)
	f.url = "nonsense"
	if _, err := a.Exec(t.Context(), named("web"), "", &v1.PodExecOptions{Container: "c"}); err == nil {
		t.Error("an address that is no URL was taken")
	}
	f.err = errors.New("down")
	if _, err := a.Exec(t.Context(), named("web"), "", &v1.PodExecOptions{Container: "c"}); !errors.Is(err, f.err) {
		t.Errorf("%v", err)
	}
	if _, err := a.PortForward(t.Context(), named("web"), "", &v1.PodPortForwardOptions{}); !errors.Is(err, f.err) {
		t.Errorf("%v", err)
	}
}

func TestRunningPods(t *testing.T) {
	a, _ := newAccess(t)
	a.cfg.Cache = &cache{pods: []*actual.Pod{
		{UID: "dead", Containers: []actual.Container{{Name: "c", State: actual.StateExited}}},
		{UID: "u1", Namespace: "ns", Name: "web", Sandboxes: []actual.Sandbox{{State: actual.StateRunning}},
			Containers: []actual.Container{{Name: "c", ImageID: "sha256:1", State: actual.StateRunning}, {Name: "c", State: actual.StateExited}}},
	}}
	pods, err := a.RunningPods(t.Context())
	if err != nil || len(pods) != 1 || pods[0].Name != "web" || fmt.Sprint(pods[0].Spec.Containers) != fmt.Sprint([]v1.Container{{Name: "c", Image: "sha256:1"}}) {
		t.Errorf("%v, %v", pods, err)
	}
}

func TestAConfigThatLacksAPartIsRefused(t *testing.T) {
	a, _ := newAccess(t)
	for i := range 4 {
		c := a.cfg
		switch i {
		case 0:
			c.CRI = nil
		case 1:
			c.Pods = nil
		case 2:
			c.Statuses = nil
		case 3:
			c.Cache = nil
		}
		if _, err := New(c); err == nil {
			t.Errorf("part %d: New succeeded", i)
		}
	}
}
