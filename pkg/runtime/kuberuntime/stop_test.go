package kuberuntime

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// stopper is a runtime whose containers take a while to stop, and whose commands
// do what they say: "sleep" for some seconds, or "fail".
type stopper struct {
	CRI
	stops       map[string]time.Duration // how long a container takes after its signal; 0 for others
	exited      []string
	annotations map[string]string

	mu    sync.Mutex
	begun time.Time
	log   []string
}

func (s *stopper) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%2.0fs ", time.Since(s.begun).Seconds())+fmt.Sprintf(format, args...))
}

func (s *stopper) Record(e journal.Entry) {
	if e.Reason != "Killing" {
		s.note("event %s of %s/%s", e.Reason, e.Pod.Name, e.Container)
	}
}

func (s *stopper) ExecSync(ctx context.Context, r *cri.ExecSyncRequest, _ ...grpc.CallOption) (*cri.ExecSyncResponse, error) {
	s.note("exec %s in %s", strings.Join(r.Cmd, " "), r.ContainerId)
	if r.Cmd[0] == "fail" {
		return &cri.ExecSyncResponse{ExitCode: 1}, nil
	}
	d, err := time.ParseDuration(r.Cmd[1])
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-time.After(d):
		return &cri.ExecSyncResponse{}, nil
	}
}

func (s *stopper) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest, _ ...grpc.CallOption) (*cri.ContainerStatusResponse, error) {
	st := &cri.ContainerStatus{Id: r.ContainerId, State: cri.ContainerState_CONTAINER_RUNNING, Annotations: s.annotations}
	if slices.Contains(s.exited, r.ContainerId) {
		st.State = cri.ContainerState_CONTAINER_EXITED
	}
	return &cri.ContainerStatusResponse{Status: st}, nil
}

func (s *stopper) StopContainer(ctx context.Context, r *cri.StopContainerRequest, _ ...grpc.CallOption) (*cri.StopContainerResponse, error) {
	s.note("stop %s within %d", r.ContainerId, r.Timeout)
	time.Sleep(min(s.stops[r.ContainerId], time.Duration(r.Timeout)*time.Second))
	return &cri.StopContainerResponse{}, nil
}

func (s *stopper) StopPodSandbox(context.Context, *cri.StopPodSandboxRequest, ...grpc.CallOption) (*cri.StopPodSandboxResponse, error) {
	s.note("sandbox")
	return &cri.StopPodSandboxResponse{}, nil
}

// manager returns a Manager over the stopper. Call it within a synctest bubble.
func (s *stopper) manager(t *testing.T) *Manager {
	s.begun = time.Now()
	m, err := New(Config{CRI: s, Clock: clock.RealClock{}, Name: "test", Journal: journal.New(time.Now, s)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func preStop(command ...string) *v1.Lifecycle {
	return &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: command}}}
}

// runningPod is the pod with these containers running, their IDs being their names.
func runningPod(names ...string) *actual.Pod {
	p := &actual.Pod{UID: "u", Name: "p", Namespace: "n", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}
	for _, n := range names {
		p.Containers = append(p.Containers, actual.Container{ID: n, Name: n, SandboxID: "s", State: actual.StateRunning})
	}
	return p
}

// A sandbox that is not ready may hold an address and ports of the host.
func TestSandboxesThatAreNotReadyAreStoppedToo(t *testing.T) {
	s := &stopper{}
	p := runningPod()
	p.Sandboxes = append(p.Sandboxes, actual.Sandbox{ID: "old", State: actual.StateExited})
	if err := s.manager(t).KillPod(t.Context(), testPod(func(*v1.Pod) {}), p, nil); err != nil || len(s.log) != 2 {
		t.Errorf("%q, %v: want both sandboxes stopped", s.log, err)
	}
}

func TestKillPod(t *testing.T) {
	handler, err := json.Marshal(preStop("sleep", "3s").PreStop)
	if err != nil {
		t.Fatal(err)
	}
	with := func(grace int64, lifecycle *v1.Lifecycle) *v1.Pod {
		return testPod(func(p *v1.Pod) {
			p.Spec.TerminationGracePeriodSeconds = &grace
			p.Spec.Containers[0].Lifecycle = lifecycle
		})
	}
	sidecars := testPod(func(p *v1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](10)
		for i := range p.Spec.InitContainers {
			p.Spec.InitContainers[i].RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
		}
		p.Spec.InitContainers[0].Lifecycle = preStop("sleep", "1s")
		p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e"}}}
	})
	for name, tc := range map[string]struct {
		pod     *v1.Pod
		running *actual.Pod
		grace   *int64
		runtime *stopper
		want    []string
	}{
		"hook and signal share the grace period": {with(10, preStop("sleep", "3s")), runningPod("c1"), nil, &stopper{},
			[]string{" 0s exec sleep 3s in c1", " 3s stop c1 within 7", " 3s sandbox"}},
		"part of a second is not counted": {with(10, preStop("sleep", "2900ms")), runningPod("c1"), nil, &stopper{},
			[]string{" 0s exec sleep 2900ms in c1", " 3s stop c1 within 8", " 3s sandbox"}},
		"two seconds are left when the hook used all": {with(10, preStop("sleep", "60s")), runningPod("c1"), nil, &stopper{},
			[]string{" 0s exec sleep 60s in c1", "10s event FailedPreStopHook of p/c1", "10s stop c1 within 2", "10s sandbox"}},
		"failing hook is told and stops nothing": {with(10, preStop("fail")), runningPod("c1"), nil, &stopper{},
			[]string{" 0s exec fail in c1", " 0s event FailedPreStopHook of p/c1", " 0s stop c1 within 10", " 0s sandbox"}},
		"grace given overrides": {with(10, preStop("sleep", "60s")), runningPod("c1"), ptr.To[int64](5), &stopper{},
			[]string{" 0s exec sleep 60s in c1", " 5s event FailedPreStopHook of p/c1", " 5s stop c1 within 2", " 5s sandbox"}},
		"one second is the hook's, two the signal's": {with(1, preStop("sleep", "60s")), runningPod("c1"), nil, &stopper{},
			[]string{" 0s exec sleep 60s in c1", " 1s event FailedPreStopHook of p/c1", " 1s stop c1 within 2", " 1s sandbox"}},
		"no container has more time than can be counted": {with(1<<40, preStop("sleep", "3s")), runningPod("c1"), nil, &stopper{},
			[]string{" 0s exec sleep 3s in c1", fmt.Sprint(" 3s stop c1 within ", math.MaxInt32-3), " 3s sandbox"}},
		"nor by what overrides": {with(10, nil), runningPod("c1"), ptr.To[int64](math.MaxInt64), &stopper{},
			[]string{fmt.Sprint(" 0s stop c1 within ", math.MaxInt32), " 0s sandbox"}},
		"no grace, no hook": {with(10, preStop("sleep", "1s")), runningPod("c1"), ptr.To[int64](0), &stopper{},
			[]string{" 0s stop c1 within 2", " 0s sandbox"}},
		"no hook for what has exited since": {with(10, preStop("sleep", "1s")), runningPod("c1"), nil, &stopper{exited: []string{"c1"}},
			[]string{" 0s stop c1 within 10", " 0s sandbox"}},
		"an orphan's hook and grace are its annotations'": {nil, runningPod("c1"), nil,
			&stopper{annotations: map[string]string{pods.AnnotationPreStopHandler: string(handler), pods.AnnotationTerminationGracePeriod: "20"}},
			[]string{" 0s exec sleep 3s in c1", " 3s stop c1 within 17", " 3s sandbox"}},
		"a container that the spec has not is an orphan too": {with(10, nil), runningPod("gone"), nil,
			&stopper{annotations: map[string]string{pods.AnnotationPreStopHandler: string(handler), pods.AnnotationDeletionGracePeriod: "4"}},
			[]string{" 0s exec sleep 3s in gone", " 3s stop gone within 2", " 3s sandbox"}},
		"sidecars stop last to first after the others": {sidecars, runningPod("i1", "i2", "c1", "c2", "e"), nil,
			&stopper{stops: map[string]time.Duration{"c1": 2 * time.Second, "c2": time.Second, "i2": time.Second}},
			[]string{" 0s exec sleep 1s in i1", " 0s stop c1 within 10", " 0s stop c2 within 10", " 0s stop e within 10", " 2s stop i2 within 8", " 3s stop i1 within 7", " 3s sandbox"}},
		"sidecars have two seconds when the others used all": {sidecars, runningPod("i1", "i2", "c1"), nil,
			&stopper{stops: map[string]time.Duration{"c1": time.Minute, "i2": time.Minute}},
			[]string{" 0s exec sleep 1s in i1", " 0s stop c1 within 10", "10s stop i1 within 2", "10s stop i2 within 2", "12s sandbox"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := tc.runtime.manager(t).KillPod(t.Context(), tc.pod, tc.running, tc.grace); err != nil {
					t.Fatal(err)
				}
				slices.SortStableFunc(tc.runtime.log, func(a, b string) int {
					if strings.Contains(a+b, "event") || strings.Contains(a+b, "sandbox") {
						return strings.Compare(a[:3], b[:3])
					}
					return strings.Compare(a, b)
				})
				if !slices.Equal(tc.runtime.log, tc.want) {
					t.Errorf("\n%s\nwant\n%s", strings.Join(tc.runtime.log, "\n"), strings.Join(tc.want, "\n"))
				}
			})
		})
	}
}

func TestAKillThatIsCalledOffEndsItsHookAndStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := testPod(func(p *v1.Pod) { p.Spec.Containers[0].Lifecycle = preStop("sleep", "20s") })
		rt := &stopper{}
		m := rt.manager(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		if err := m.KillPod(ctx, pod, runningPod("c1"), nil); err == nil || time.Since(rt.begun) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(rt.begun))
		}
		if want := []string{" 0s exec sleep 20s in c1"}; !slices.Equal(rt.log, want) {
			t.Errorf("%q, want %q", rt.log, want)
		}
	})
}

func TestPostStart(t *testing.T) {
	grace := int64(10)
	for name, tc := range map[string]struct {
		lifecycle *v1.Lifecycle
		failed    bool
		want      []string
	}{
		"none":     {nil, false, nil},
		"succeeds": {&v1.Lifecycle{PostStart: preStop("sleep", "4s").PreStop}, false, []string{" 0s exec sleep 4s in c1"}},
		"fails: the container is stopped, its preStop hook included": {&v1.Lifecycle{PostStart: preStop("fail").PreStop, PreStop: preStop("sleep", "1s").PreStop}, true,
			[]string{" 0s exec fail in c1", " 0s event FailedPostStartHook of p/c1", " 0s exec sleep 1s in c1", " 1s stop c1 within 9"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1.PodSpec{
					TerminationGracePeriodSeconds: &grace, Containers: []v1.Container{{Name: "c1", Lifecycle: tc.lifecycle}},
				}}
				rt := &stopper{}
				p := &pass{m: rt.manager(t), pod: pod}
				if err := p.postStart(t.Context(), &pod.Spec.Containers[0], "c1"); (err != nil) != tc.failed {
					t.Errorf("error %v", err)
				}
				if !slices.Equal(rt.log, tc.want) {
					t.Errorf("%q, want %q", rt.log, tc.want)
				}
			})
		})
	}
}

// addresses is a runtime with these sandboxes, of which ID "node" is on the node's network.
type addresses struct {
	CRI
	ids []string
}

func (a addresses) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest, _ ...grpc.CallOption) (*cri.ListPodSandboxResponse, error) {
	if r.Filter.LabelSelector[pods.LabelPodUID] != "u" || r.Filter.State.State != cri.PodSandboxState_SANDBOX_READY {
		return nil, status.Error(codes.InvalidArgument, "asked for more than the pod's ready sandboxes")
	}
	var list cri.ListPodSandboxResponse
	for i, id := range a.ids {
		list.Items = append(list.Items, &cri.PodSandbox{Id: id, CreatedAt: int64(i)})
	}
	return &list, nil
}

func (a addresses) PodSandboxStatus(_ context.Context, r *cri.PodSandboxStatusRequest, _ ...grpc.CallOption) (*cri.PodSandboxStatusResponse, error) {
	ip, additional, _ := strings.Cut(r.PodSandboxId, ",")
	s := &cri.PodSandboxStatus{Network: &cri.PodSandboxNetworkStatus{Ip: ip, AdditionalIps: []*cri.PodIP{{Ip: additional}}}}
	if r.PodSandboxId == "node" {
		s.Network, s.Linux = nil, &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{Options: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}}
	}
	return &cri.PodSandboxStatusResponse{Status: s}, nil
}

func TestHookHost(t *testing.T) {
	for name, tc := range map[string]struct {
		sandboxes   []string
		hostNetwork bool
		ips         []string
		want        string
	}{
		"known":                        {nil, false, []string{"10.0.0.1", "fd00::1"}, "10.0.0.1"},
		"newest sandbox's":             {[]string{"10.0.0.2", "10.0.0.3"}, false, nil, "10.0.0.3"},
		"of the node's family":         {[]string{"fd00::2,10.0.0.2"}, false, nil, "10.0.0.2"},
		"host network":                 {nil, true, nil, "192.0.2.1"},
		"orphan on the node's network": {[]string{"node"}, false, nil, "192.0.2.1"},
		"no sandbox":                   {nil, false, nil, ""},
		"no address":                   {[]string{""}, false, nil, ""},
	} {
		m, err := New(Config{CRI: addresses{ids: tc.sandboxes}, Clock: clock.RealClock{}, Name: "test", Node: criconfig.NodeConfig{HostIPs: func() []string { return []string{"192.0.2.1"} }}})
		if err != nil {
			t.Fatal(err)
		}
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Spec: v1.PodSpec{HostNetwork: tc.hostNetwork}}
		got, err := m.hookTarget(pod, &v1.Container{}, "id", tc.ips).Host(t.Context())
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

// immortal is a stopper whose containers cannot be stopped.
type immortal struct{ *stopper }

func (immortal) StopContainer(context.Context, *cri.StopContainerRequest, ...grpc.CallOption) (*cri.StopContainerResponse, error) {
	return nil, status.Error(codes.Internal, "it will not die")
}

func TestAPodThatCannotBeStoppedIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stopper{begun: time.Now()}
		m, err := New(Config{CRI: immortal{s}, Clock: clock.RealClock{}, Name: "test", Journal: journal.New(time.Now, s)})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.KillPod(t.Context(), testPod(nil), runningPod("c1"), nil); err == nil {
			t.Error("stopped")
		}
		if want := []string{" 0s event FailedKillPod of p/"}; !slices.Equal(s.log, want) {
			t.Errorf("log %q, want %q", s.log, want)
		}
	})
}
