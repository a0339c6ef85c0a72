package podstart

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

var created = time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)

// node is a Tracker with its clock; each step of a test moves it by seconds.
type node struct {
	*Tracker
	registry *prometheus.Registry
	clock    *clocktesting.FakePassiveClock
}

func newNode(t *testing.T) node {
	t.Helper()
	n := node{registry: prometheus.NewPedanticRegistry(), clock: clocktesting.NewFakePassiveClock(created)}
	var err error
	if n.Tracker, err = New(n.registry, n.clock); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n node) after(seconds float64) {
	n.clock.SetTime(created.Add(time.Duration(seconds * float64(time.Second))))
}

// measured is what was counted: the number and sum of each histogram, and the gauge.
func (n node) measured(t *testing.T) string {
	t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, f := range families {
		name := strings.TrimSuffix(strings.TrimPrefix(f.GetName(), "kubelet_"), "_duration_seconds")
		if h := f.Metric[0].GetHistogram(); h != nil {
			values[name] = fmt.Sprintf("%dx%g", h.GetSampleCount(), h.GetSampleSum())
		} else {
			values[name] = fmt.Sprintf("%g", f.Metric[0].GetGauge().GetValue())
		}
	}
	return fmt.Sprintf("total %s, sli %s, first %s", values["pod_start_total"], values["pod_start_sli"], values["first_network_pod_start_sli"])
}

func bound(change ...func(*v1.Pod)) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web", UID: "1", CreationTimestamp: metav1.NewTime(created), Annotations: map[string]string{pods.AnnotationConfigSource: pods.SourceAPI},
		},
		Spec: v1.PodSpec{InitContainers: []v1.Container{{Name: "init"}}, Containers: []v1.Container{{Name: "a"}, {Name: "b"}}},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

// running is the pod with those of its containers running.
func running(pod *v1.Pod, names ...string) *v1.Pod {
	now := pod.DeepCopy()
	now.Status.StartTime = &metav1.Time{Time: created}
	for _, name := range names {
		now.Status.ContainerStatuses = append(now.Status.ContainerStatuses, v1.ContainerStatus{
			Name: name, State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(created)}},
		})
	}
	return now
}

func TestAPodIsMeasuredOnceItsLastContainerRuns(t *testing.T) {
	n, pod := newNode(t), bound()
	n.Follow(pod, false)
	n.after(2)
	n.Changed(running(pod))
	n.after(3)
	n.Changed(running(pod, "a"))
	if got, want := n.measured(t), "total 0x0, sli 0x0, first 0"; got != want {
		t.Errorf("with one container running: %s, want %s", got, want)
	}
	n.after(4)
	n.Changed(running(pod, "a", "b"))
	n.after(60)
	n.Changed(running(pod, "a", "b"))
	n.Follow(running(pod, "a", "b"), true)
	n.Changed(running(pod, "a", "b"))
	if got, want := n.measured(t), "total 1x4, sli 1x4, first 4"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestPullsAndInitContainersAreNoTimeOfTheSLI(t *testing.T) {
	at := func(seconds float64) time.Time { return created.Add(time.Duration(seconds * float64(time.Second))) }
	ran := func(name string, from, to float64) *actual.ContainerStatus {
		return &actual.ContainerStatus{Name: name, State: actual.StateExited, StartedAt: at(from), FinishedAt: at(to)}
	}
	for name, tc := range map[string]struct {
		do   func(node, *v1.Pod)
		want string // all containers run after 100 s
	}{
		"nothing to wait for": {func(node, *v1.Pod) {}, "total 1x100, sli 1x100, first 100"},
		"pulls that overlap": {func(n node, pod *v1.Pod) {
			n.after(10)
			n.Pulling(pod.UID, "x")
			n.after(20)
			n.Pulling(pod.UID, "y")
			n.after(30)
			n.Present(pod.UID, "x")
			n.after(40)
			n.Present(pod.UID, "y")
		}, "total 1x100, sli 1x70, first 70"},
		"pulls one after the other": {func(n node, pod *v1.Pod) {
			n.after(10)
			n.Pulling(pod.UID, "x")
			n.after(15)
			n.Present(pod.UID, "x")
			n.after(20)
			n.Pulling(pod.UID, "y")
			n.after(22)
			n.Present(pod.UID, "y")
		}, "total 1x100, sli 1x93, first 93"},
		"a pull that fails, backs off and succeeds": {func(n node, pod *v1.Pod) {
			n.after(10)
			n.Pulling(pod.UID, "x")
			n.after(50)
			n.Pulling(pod.UID, "x")
			n.after(60)
			n.Present(pod.UID, "x")
			n.Present(pod.UID, "x")
		}, "total 1x100, sli 1x50, first 50"},
		"an image that was there": {func(n node, pod *v1.Pod) {
			n.after(10)
			n.Present(pod.UID, "x")
		}, "total 1x100, sli 1x100, first 100"},
		"an init container, seen twice, that failed once": {func(n node, pod *v1.Pod) {
			n.Observed(pod, &actual.PodStatus{Containers: []*actual.ContainerStatus{ran("init", 10, 15)}})
			n.Observed(pod, &actual.PodStatus{Containers: []*actual.ContainerStatus{ran("init", 20, 30), ran("init", 10, 15)}})
			n.Observed(pod, &actual.PodStatus{Containers: []*actual.ContainerStatus{ran("init", 20, 30)}})
		}, "total 1x100, sli 1x85, first 85"},
		"runs that are seen at once": {func(n node, pod *v1.Pod) {
			n.Observed(pod, &actual.PodStatus{Containers: []*actual.ContainerStatus{ran("init", 20, 30), ran("init", 10, 15)}})
		}, "total 1x100, sli 1x85, first 85"},
		"ends of other containers": {func(n node, pod *v1.Pod) {
			n.Observed(pod, &actual.PodStatus{Containers: []*actual.ContainerStatus{ran("a", 20, 30), ran("gone", 20, 30), {Name: "init", State: actual.StateRunning, StartedAt: at(5)}}})
		}, "total 1x100, sli 1x100, first 100"},
		"an end without a start": {func(n node, pod *v1.Pod) {
			n.Observed(pod, &actual.PodStatus{Containers: []*actual.ContainerStatus{{Name: "init", State: actual.StateExited, FinishedAt: at(30)}}})
		}, "total 1x100, sli 1x100, first 100"},
		"times that make no sense": {func(n node, pod *v1.Pod) {
			n.Observed(pod, &actual.PodStatus{Containers: []*actual.ContainerStatus{ran("init", 1, 900)}})
		}, "total 1x100, sli 1x0, first 0"},
	} {
		n, pod := newNode(t), bound()
		n.Follow(pod, false)
		tc.do(n, pod)
		n.after(100)
		n.Changed(running(pod, "a", "b"))
		if got := n.measured(t); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestSidecarsAreNoInitContainersToWaitFor(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	n, pod := newNode(t), bound(func(p *v1.Pod) { p.Spec.InitContainers[0].RestartPolicy = &always })
	n.Follow(pod, false)
	n.Observed(pod, &actual.PodStatus{Containers: []*actual.ContainerStatus{
		{Name: "init", State: actual.StateExited, StartedAt: created, FinishedAt: created.Add(time.Second)},
	}})
	n.after(5)
	n.Changed(running(pod, "a", "b"))
	if got, want := n.measured(t), "total 1x5, sli 1x5, first 5"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWhatThePodIsDecidesWhatIsMeasured(t *testing.T) {
	const nothing = "total 0x0, sli 0x0, first 0"
	unschedulable := v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionFalse}
	for name, tc := range map[string]struct {
		pod  *v1.Pod
		runs bool
		last func(*v1.Pod)
		want string
	}{
		"on the host's network": {pod: bound(func(p *v1.Pod) { p.Spec.HostNetwork = true }), want: "total 1x7, sli 1x7, first 0"},
		"with a ConfigMap": {pod: bound(func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}}}
		}), want: "total 1x7, sli 1x7, first 7"},
		"with a claim": {
			pod: bound(func(p *v1.Pod) {
				p.Spec.Volumes = []v1.Volume{{VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{}}}}
			}),
			want: "total 1x7, sli 0x0, first 0",
		},
		"a static one":         {pod: bound(func(p *v1.Pod) { p.Annotations[pods.AnnotationConfigSource] = pods.SourceFile }), want: nothing},
		"a mirror":             {pod: bound(func(p *v1.Pod) { p.Annotations[pods.AnnotationConfigMirror] = "x" }), want: nothing},
		"taken in before":      {pod: bound(func(p *v1.Pod) { p.Status.StartTime = &metav1.Time{Time: created} }), want: nothing},
		"running already":      {pod: bound(), runs: true, want: nothing},
		"not scheduled before": {pod: bound(func(p *v1.Pod) { p.Status.Conditions = []v1.PodCondition{unschedulable} }), want: nothing},
		"failed before":        {pod: bound(func(p *v1.Pod) { p.Status.Phase = v1.PodFailed }), want: nothing},
		"fails":                {pod: bound(), last: func(p *v1.Pod) { p.Status.Phase = v1.PodFailed }, want: nothing},
		"made in the future":   {pod: bound(func(p *v1.Pod) { p.CreationTimestamp = metav1.NewTime(created.Add(time.Hour)) }), want: "total 1x0, sli 1x0, first 0"},
	} {
		n := newNode(t)
		n.Follow(tc.pod, tc.runs)
		n.after(7)
		now := running(tc.pod, "a", "b")
		if tc.last != nil {
			tc.last(now)
		}
		n.Changed(now)
		if got := n.measured(t); got != tc.want {
			t.Errorf("a pod %s: %s, want %s", name, got, tc.want)
		}
		if len(n.pods) != 0 {
			t.Errorf("a pod %s: it is still known", name)
		}
	}
}

func TestNothingIsKeptOfAPodThatIsGone(t *testing.T) {
	n, pod := newNode(t), bound()
	n.Follow(pod, false)
	n.Pulling(pod.UID, "x")
	n.Forget(pod.UID)
	n.Pulling(pod.UID, "x")
	n.Present(pod.UID, "x")
	n.Observed(pod, &actual.PodStatus{})
	n.Changed(running(pod, "a", "b"))
	if got, want := n.measured(t), "total 0x0, sli 0x0, first 0"; got != want || len(n.pods) != 0 {
		t.Errorf("%s and %d pods known, want %s and none", got, len(n.pods), want)
	}
}

func TestWithoutATrackerNothingIsMeasured(t *testing.T) {
	var n *Tracker
	pod := bound()
	n.Follow(pod, false)
	n.Pulling(pod.UID, "x")
	n.Present(pod.UID, "x")
	n.Observed(pod, &actual.PodStatus{})
	n.Changed(pod)
	n.Forget(pod.UID)
}
