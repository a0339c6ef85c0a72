package worker

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// node is a runtime, cache, volumes and status store in memory: pods run from
// SyncPod to KillPod. It checks that no pod is worked on by two goroutines.
type node struct {
	mu       sync.Mutex
	running  map[types.UID]*actual.Pod
	busy     map[types.UID]bool
	calls    []string
	statuses map[types.UID]v1.PodStatus
	t        *testing.T

	syncPod func(ctx context.Context, pod *v1.Pod) kuberuntime.SyncResult
	killPod func(ctx context.Context, grace *int64) error

	events   []string // reasons and messages
	look     func() error
	setUp    func() error
	tearDown func() error
	recall   func(*v1.Pod) (v1.PodStatus, bool)
}

func newNode(t *testing.T) *node {
	return &node{t: t, running: map[types.UID]*actual.Pod{}, busy: map[types.UID]bool{}, statuses: map[types.UID]v1.PodStatus{}}
}

func (n *node) enter(call string, uid types.UID) func() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[uid] {
		n.t.Errorf("%s of pod %s while another call works on it", call, uid)
	}
	n.busy[uid] = true
	n.calls = append(n.calls, call+" "+string(uid))
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.busy[uid] = false
	}
}

func (n *node) GetNewerThan(ctx context.Context, uid types.UID, _ time.Time) (*actual.PodStatus, error) {
	if n.look != nil {
		if err := n.look(); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &actual.PodStatus{UID: uid}
	if p := n.running[uid]; p != nil {
		s.Name, s.Namespace = p.Name, p.Namespace
		s.Containers = []*actual.ContainerStatus{{ID: actual.ContainerID{Runtime: "test", ID: "c-" + string(uid)}, Name: "c", State: actual.StateRunning}}
	}
	return s, ctx.Err()
}

func (n *node) Look(ctx context.Context, uid types.UID) (*actual.PodStatus, error) {
	return n.GetNewerThan(ctx, uid, time.Now())
}

func (n *node) Pods() []*actual.Pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	var pods []*actual.Pod
	for _, p := range n.running {
		pods = append(pods, p)
	}
	return pods
}

func (n *node) run(uid types.UID, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running[uid] = &actual.Pod{UID: uid, Name: name, Namespace: "default", Containers: []actual.Container{{Name: "c", State: actual.StateRunning}}}
}

func (n *node) SyncPod(ctx context.Context, pod *v1.Pod, _ *actual.PodStatus) kuberuntime.SyncResult {
	defer n.enter("sync", pod.UID)()
	if n.syncPod != nil {
		if r := n.syncPod(ctx, pod); r.Err != nil || r.Waiting != nil || r.Reset {
			return r
		}
	}
	n.run(pod.UID, pod.Name)
	return kuberuntime.SyncResult{}
}

func (n *node) KillPod(ctx context.Context, _ *v1.Pod, running *actual.Pod, grace *int64) error {
	defer n.enter("kill", running.UID)()
	if n.killPod != nil {
		if err := n.killPod(ctx, grace); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.running, running.UID)
	return nil
}

func (n *node) RemovePod(_ context.Context, uid types.UID, _ types.NamespacedName) error {
	defer n.enter("remove", uid)()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running[uid] != nil {
		return kuberuntime.ErrRunning
	}
	return nil
}

func (n *node) volumes() Holding {
	return Holding{Name: "volumes", SetUp: n.SetUp, Release: n.TearDown, Reason: "FailedMount"}
}

func (n *node) SetUp(_ context.Context, pod *v1.Pod) error {
	defer n.enter("setup", pod.UID)()
	if n.setUp != nil {
		return n.setUp()
	}
	return nil
}

func (n *node) TearDown(_ context.Context, uid types.UID) error {
	defer n.enter("teardown", uid)()
	if n.tearDown != nil {
		return n.tearDown()
	}
	return nil
}

func (n *node) Get(uid types.UID) (v1.PodStatus, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, ok := n.statuses[uid]
	return s, ok
}

func (n *node) Set(pod *v1.Pod, s v1.PodStatus) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.statuses[pod.UID] = s
	return true
}

func (n *node) Finish(pod *v1.Pod) {
	defer n.enter("finish", pod.UID)()
}

func (n *node) Delete(uid types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.statuses, uid)
}

func (n *node) Refresh(types.UID, podstatus.Verdict, time.Time) bool { return false }

// Record implements journal.Sink.
func (n *node) Record(e journal.Entry) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e.Reason+": "+e.Message)
}

func (n *node) told() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events)
}

func (n *node) history() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.calls)
}

func staticPod(uid, name string) *v1.Pod {
	p := testPod(uid, name)
	p.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceFile}
	p.Spec.RestartPolicy = v1.RestartPolicyAlways
	p.Spec.Containers = []v1.Container{{Name: "c", Image: "i"}}
	return p
}

// start runs Workers over the node until the test ends.
func start(t *testing.T, n *node) *Workers {
	w, err := New(Config{
		Cache: n, Runtime: n, Holdings: []Holding{n.volumes()}, Statuses: n, Clock: clock.RealClock{}, Journal: journal.New(time.Now, n),
		SyncFrequency: time.Minute, HostIPs: func() []string { return []string{"192.0.2.1"} }, Recall: n.recall,
	})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, w.Run)
	return w
}

func TestPodFromCreateToGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		if p, ok := w.Known("1"); !ok || p != Syncing {
			t.Fatalf("after create: phase %v, known %v; want syncing", p, ok)
		}
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		synctest.Wait()
		if p, ok := w.Known("1"); ok {
			t.Errorf("after removal the pod is still known, in phase %v", p)
		}
		want := []string{"setup 1", "sync 1", "kill 1", "teardown 1", "finish 1", "remove 1"}
		if got := n.history(); !slices.Equal(got, want) {
			t.Errorf("calls = %v, want %v", got, want)
		}
		if _, ok := n.Get("1"); ok {
			t.Error("the status of a pod that is gone was kept")
		}
	})
}

// A manifest's deletionGracePeriodSeconds is what the pod is stopped with.
func TestALeavingPodIsShownWithTheGraceThatItGets(t *testing.T) {
	for _, tt := range []struct{ killed, own, want int64 }{{0, 5, 5}, {3, 5, 3}, {0, 0, 600}} {
		pod := staticPod("1", "web")
		pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](600)
		s := &state{uid: "1", static: true, pod: pod, removed: true, phase: Terminating}
		if tt.own > 0 {
			pod.DeletionGracePeriodSeconds = &tt.own
		}
		if tt.killed > 0 {
			s.grace = &tt.killed
		}
		w := &Workers{states: map[types.UID]*state{"1": s}}
		if got := *w.Leaving()[0].DeletionGracePeriodSeconds; got != tt.want {
			t.Errorf("%+v: shown as %d s", tt, got)
		}
	}
}

func TestPodThatNobodyWantsIsLeavingUntilItIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		release := make(chan struct{})
		n.killPod = func(context.Context, *int64) error { <-release; return nil }
		w := start(t, n)
		stays, pod := staticPod("1", "stays"), staticPod("2", "web")
		pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](math.MaxInt64)
		w.Update(Update{Kind: Create, Pod: stays})
		w.Update(Update{Kind: Create, Pod: pod})
		w.Update(Update{Kind: Kill, Running: &actual.Pod{UID: "3"}, Removed: true}) // an orphan
		synctest.Wait()
		if got := w.Leaving(); len(got) != 0 {
			t.Errorf("leaving: %v", got)
		}
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		synctest.Wait()
		got := w.Leaving()
		if len(got) != 1 || got[0].UID != "2" || got[0].DeletionTimestamp.Before(&metav1.Time{Time: time.Now()}) {
			t.Fatalf("leaving: %v", got)
		}
		if grace := got[0].DeletionGracePeriodSeconds; *grace != math.MaxInt64 {
			t.Errorf("%d s of grace are shown", *grace)
		}
		if pod.DeletionTimestamp != nil {
			t.Error("the pod itself was changed")
		}
		w.Update(Update{Kind: Create, Pod: pod})
		if got := w.Leaving(); len(got) != 0 {
			t.Errorf("leaving though it is wanted again: %v", got)
		}
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		close(release)
		synctest.Wait()
		if got := w.Leaving(); len(got) != 0 {
			t.Errorf("leaving though it is gone: %v", got)
		}
	})
}

func TestReplacedStaticPodWaitsUntilTheOldOneIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		release := make(chan struct{})
		n.killPod = func(ctx context.Context, _ *int64) error { <-release; return nil }
		w := start(t, n)
		old, next := staticPod("1", "web"), staticPod("2", "web")
		w.Update(Update{Kind: Create, Pod: old})
		synctest.Wait()
		w.Update(Update{Kind: Create, Pod: next})
		w.Update(Update{Kind: Kill, Pod: old, Removed: true})
		synctest.Wait()
		if slices.Contains(n.history(), "sync 2") {
			t.Fatal("the new pod was started while the old one was being stopped")
		}
		close(release)
		synctest.Wait()
		calls := n.history()
		if i, j := slices.Index(calls, "remove 1"), slices.Index(calls, "sync 2"); i < 0 || j < i {
			t.Errorf("calls = %v, want sync 2 after remove 1", calls)
		}
	})
}

func TestStaticPodReplacedWhileNoAgentRanWaitsForTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.run("1", "web")
		w := start(t, n)
		w.Update(Update{Kind: Create, Pod: staticPod("2", "web")})
		synctest.Wait()
		calls := n.history()
		if i, j := slices.Index(calls, "kill 1"), slices.Index(calls, "sync 2"); i < 0 || j < i {
			t.Errorf("calls = %v, want kill 1 before sync 2", calls)
		}
	})
}

func TestPodWantedAgainStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		release := make(chan struct{})
		n.killPod = func(ctx context.Context, _ *int64) error { <-release; return nil }
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		synctest.Wait()
		w.Update(Update{Kind: Create, Pod: pod})
		close(release)
		synctest.Wait()
		want := []string{"setup 1", "sync 1", "kill 1", "teardown 1", "finish 1", "remove 1", "setup 1", "sync 1"}
		if got := n.history(); !slices.Equal(got, want) {
			t.Errorf("calls = %v, want %v", got, want)
		}
	})
}

func TestShorterGraceCutsTheKillShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		var graces []int64
		n.killPod = func(ctx context.Context, grace *int64) error {
			graces = append(graces, ptr.Deref(grace, 30))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(ptr.Deref(grace, 30)) * time.Second):
				return nil
			}
		}
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		synctest.Wait()
		begun := time.Now()
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true, Grace: ptr.To[int64](2)})
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true, Grace: ptr.To[int64](20)})
		for {
			if _, ok := w.Known("1"); !ok {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("the pod was gone after %v, want about 2 s", took)
		}
		if graces[0] != 30 || graces[len(graces)-1] != 2 {
			t.Errorf("graces = %v, want first the pod's own 30, last 2", graces)
		}
	})
}

func TestAKilledPodIsWhatItsKillerSaysAndNothingRevivesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Kill, Pod: pod, Explain: func(s *v1.PodStatus) {
			s.Phase, s.Reason, s.Message = v1.PodFailed, "Evicted", "too much"
		}})
		for _, kind := range []Kind{Sync, Change, Create} {
			synctest.Wait()
			w.Update(Update{Kind: kind, Pod: pod})
		}
		synctest.Wait()
		if s, _ := n.Get("1"); s.Phase != v1.PodFailed || s.Reason != "Evicted" || s.Message != "too much" {
			t.Errorf("phase %s, reason %q, message %q", s.Phase, s.Reason, s.Message)
		}
		calls := n.history()
		if i := slices.Index(calls, "kill 1"); i < 0 || slices.Contains(calls[i:], "sync 1") || slices.Contains(calls, "remove 1") {
			t.Errorf("calls = %v", calls)
		}
	})
}

func TestFailureBacksOffAndHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.syncPod = func(_ context.Context, pod *v1.Pod) kuberuntime.SyncResult {
			if pod.UID == "bad" {
				return kuberuntime.SyncResult{Err: errors.New("no")}
			}
			return kuberuntime.SyncResult{}
		}
		w := start(t, n)
		w.Update(Update{Kind: Create, Pod: staticPod("bad", "bad")})
		w.Update(Update{Kind: Create, Pod: staticPod("good", "good")})
		synctest.Wait()
		if !slices.Contains(n.history(), "sync good") {
			t.Error("a good pod was held up by a bad one")
		}
		now := time.Now()
		if due := w.Due(now.Add(9 * time.Second)); slices.Contains(due, "bad") {
			t.Error("the failed pod is due before its back-off of 10 s is over")
		}
		if due := w.Due(now.Add(16 * time.Second)); !slices.Contains(due, "bad") {
			t.Errorf("due after 16 s = %v, want the failed pod in it", due)
		}
	})
}

func TestWaitingReasonsReachTheStatusAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.syncPod = func(context.Context, *v1.Pod) kuberuntime.SyncResult {
			return kuberuntime.SyncResult{Waiting: map[string]actual.Waiting{"c": {Reason: "ErrImagePull", Message: "no such image"}}, RetryAfter: 3 * time.Second}
		}
		w := start(t, n)
		w.Update(Update{Kind: Create, Pod: staticPod("1", "web")})
		synctest.Wait()
		s, _ := n.Get("1")
		if len(s.ContainerStatuses) != 1 || s.ContainerStatuses[0].State.Waiting == nil || s.ContainerStatuses[0].State.Waiting.Reason != "ErrImagePull" {
			t.Errorf("container statuses = %+v, want waiting with ErrImagePull", s.ContainerStatuses)
		}
		if due := w.Due(time.Now().Add(3 * time.Second)); !slices.Contains(due, "1") {
			t.Error("the pod is not due when its back-off ends")
		}
	})
}

func TestAgentStopLeavesPodsRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		ctx, cancel := context.WithCancel(t.Context())
		w, err := New(Config{Cache: n, Runtime: n, Holdings: []Holding{n.volumes()}, Statuses: n, Clock: clock.RealClock{}, SyncFrequency: time.Minute, HostIPs: func() []string { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		w.Update(Update{Kind: Create, Pod: staticPod("1", "web")})
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if slices.Contains(n.history(), "kill 1") {
			t.Error("stopping the agent killed a pod")
		}
	})
}

// A runtime may still carry out a start that a killed agent asked for.
func TestWhatStartsAfterAPodWasStoppedIsStoppedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		w := start(t, n)
		n.tearDown = func() error {
			n.tearDown = nil
			n.run("1", "web")
			return nil
		}
		w.Update(Update{Kind: Create, Pod: staticPod("1", "web")})
		synctest.Wait()
		w.Update(Update{Kind: Kill, Pod: staticPod("1", "web"), Removed: true})
		synctest.Wait()
		if _, known := w.Known("1"); known || n.running["1"] != nil {
			t.Errorf("known %v, running %v; calls %v", known, n.running["1"], n.history())
		}
	})
}

func TestOrphanIsKilledAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.run("1", "web")
		w := start(t, n)
		w.Update(Update{Kind: Kill, Running: n.Pods()[0], Removed: true})
		synctest.Wait()
		want := []string{"kill 1", "teardown 1", "remove 1"}
		if got := n.history(); !slices.Equal(got, want) {
			t.Errorf("calls = %v, want %v", got, want)
		}
		if len(n.Pods()) != 0 {
			t.Error("the orphan still runs")
		}
	})
}

// releases notes whether the pod's end was known when its CPUs were released.
type releases struct {
	n     *node
	err   error
	known []bool
	given int // pods that were given theirs
}

func (r *releases) holding() Holding {
	return Holding{
		Name:    "CPUs",
		SetUp:   func(context.Context, *v1.Pod) error { r.given++; return nil },
		Stopped: r.Release,
	}
}

func (r *releases) Release(uid types.UID) error {
	s, _ := r.n.Get(uid)
	r.known = append(r.known, s.Phase == v1.PodSucceeded || s.Phase == v1.PodFailed)
	err := r.err
	r.err = nil
	return err
}

// A static pod that is removed and put back has the same UID.
func TestAPodThatComesBackBeforeItIsGoneGetsItsCPUsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		cpus := &releases{n: n}
		w, err := New(Config{
			Cache: n, Runtime: n, Holdings: []Holding{cpus.holding(), n.volumes()}, Statuses: n, Clock: clock.RealClock{},
			SyncFrequency: time.Minute, HostIPs: func() []string { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		testrun.Start(t, w.Run)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		before := cpus.given
		n.killPod = func(context.Context, *int64) error {
			w.Update(Update{Kind: Create, Pod: pod})
			return nil
		}
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		synctest.Wait()
		if len(cpus.known) != 1 || cpus.given <= before || n.running["1"] == nil {
			t.Errorf("released %d times, given %d times after %d, runs %v", len(cpus.known), cpus.given, before, n.running["1"] != nil)
		}
	})
}

// An eviction that was decided before its pod was gone arrives late.
func TestAKillThatExplainsItselfBeginsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		w := start(t, n)
		w.Update(Update{Kind: Kill, Pod: staticPod("1", "web"), Explain: func(*v1.PodStatus) {}})
		synctest.Wait()
		if _, known := w.Known("1"); known {
			t.Errorf("it has a worker; calls %v", n.history())
		}
	})
}

func TestCPUsAreReleasedBeforeTheEndIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		cpus := &releases{n: n, err: errors.New("disk full")}
		w, err := New(Config{
			Cache: n, Runtime: n, Holdings: []Holding{cpus.holding(), n.volumes()}, Statuses: n, Clock: clock.RealClock{},
			SyncFrequency: time.Minute, HostIPs: func() []string { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = w.Run(t.Context()) }()
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Kill, Pod: pod})
		synctest.Wait()
		if s, _ := n.Get("1"); len(cpus.known) != 1 || s.Phase == v1.PodFailed || s.Phase == v1.PodSucceeded {
			t.Errorf("releases %v, phase %s; want one that failed and no end", cpus.known, s.Phase)
		}
		time.Sleep(errorBackOff * 2)
		w.Update(Update{Kind: Sync, Pod: pod})
		synctest.Wait()
		if s, _ := n.Get("1"); !slices.Equal(cpus.known, []bool{false, false}) || s.Phase != v1.PodFailed && s.Phase != v1.PodSucceeded {
			t.Errorf("the end was known at the releases: %v, now %s", cpus.known, s.Phase)
		}
	})
}

func TestPodThatWasResetStartsAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		syncs := 0
		n.syncPod = func(context.Context, *v1.Pod) kuberuntime.SyncResult {
			if syncs++; syncs == 1 {
				return kuberuntime.SyncResult{Reset: true}
			}
			return kuberuntime.SyncResult{}
		}
		w := start(t, n)
		begun := time.Now()
		w.Update(Update{Kind: Create, Pod: staticPod("1", "web")})
		synctest.Wait()
		if want := []string{"setup 1", "sync 1", "sync 1"}; !slices.Equal(n.history(), want) || time.Since(begun) > 0 {
			t.Errorf("calls %v after %v, want %v at once", n.history(), time.Since(begun), want)
		}
	})
}

// A defect that one pod triggers fails only that pod, which is tried again, not the
// node.
func TestAPanicIsAFailedStepOfThatPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		tries := 0
		n.setUp = func() error {
			if tries++; tries == 1 {
				panic("a defect")
			}
			return nil
		}
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		time.Sleep(errorBackOff * 2)
		w.Update(Update{Kind: Sync, Pod: pod})
		synctest.Wait()
		if h := n.history(); !slices.Contains(h, "sync 1") {
			t.Errorf("calls %v, want the pod to be tried again", h)
		}
	})
}

func TestPodThatIsWantedAgainCanBeTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		stop := make(chan struct{})
		n.killPod = func(ctx context.Context, _ *int64) error {
			select {
			case <-stop:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		if p, ok := w.Known("1"); !ok || p != Waiting {
			t.Fatalf("known as %v, %v", p, ok)
		}
		w.Update(Update{Kind: Kill, Pod: pod, Removed: true})
		if p, ok := w.Known("1"); !ok || p != Terminating {
			t.Fatalf("known as %v, %v once it is not wanted", p, ok)
		}
		close(stop)
		synctest.Wait()
		if p, ok := w.Known("1"); ok {
			t.Errorf("known as %v, calls %q", p, n.history())
		}
	})
}
