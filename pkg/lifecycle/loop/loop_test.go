package loop

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstart"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/probe"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// bench is a loop with its surroundings in memory.
type bench struct {
	mu        sync.Mutex
	updates   []string
	known     map[types.UID]worker.Phase
	due       []types.UID
	view      []*actual.Pod
	listed    chan struct{}
	reject    map[string]pods.Rejection
	told      []string
	statuses  map[types.UID]v1.PodStatus // what the workers have said
	mirrors   []string                   // whom Mirrors was told of, and what the store then had
	cleaned   []func(types.UID) bool     // what was gone, each time
	clean     func()
	wakeups   *Wakeups
	evictions chan worker.Update
	cleared   chan struct{}
	calledOff chan struct{}
	judged    func(*v1.Pod) // as each pod is
	refresh   func(context.Context) error
	room      int // for how many pods there is; 0: any number
	preempted preemption
	metrics   *prometheus.Registry // of Starts

	changes chan source.Change
	events  chan pleg.Event
	probes  chan probe.Changed
	store   *podstore.Store
}

func (b *bench) Update(u worker.Update) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kind := [...]string{"create", "change", "sync", "kill"}[u.Kind]
	uid := types.UID("")
	if u.Pod != nil {
		uid = u.Pod.UID
	} else {
		kind, uid = kind+" orphan", u.Running.UID
	}
	if u.Removed {
		kind += " removed"
	}
	b.updates = append(b.updates, fmt.Sprintf("%s %s", kind, uid))
	switch p, known := b.known[uid]; {
	case u.Kind == worker.Create:
		b.known[uid] = worker.Syncing
	case u.Removed && known && p == worker.Waiting: // what begins later does not; see worker.TestPodThatIsWantedAgainCanBeTakenBack
		b.known[uid] = worker.Terminating
	}
}

func (b *bench) Known(uid types.UID) (worker.Phase, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.known[uid]
	return p, ok
}

func (b *bench) UIDs() []types.UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	var uids []types.UID
	for uid := range b.known {
		uids = append(uids, uid)
	}
	return uids
}

func (b *bench) Due(time.Time) []types.UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	due := b.due
	b.due = nil
	return due
}

func (b *bench) Pods() []*actual.Pod { return b.view }

func (b *bench) Orphans(_ context.Context, gone func(types.UID) bool) error {
	if b.clean != nil {
		b.clean()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cleaned = append(b.cleaned, gone)
	return nil
}

func (b *bench) Admit(pod *v1.Pod, others []*v1.Pod) *pods.Rejection {
	if b.judged != nil {
		b.judged(pod)
	}
	if r, ok := b.reject[pod.Name]; ok {
		r.Message = fmt.Sprintf("%s beside %d", r.Message, len(others))
		return &r
	}
	if b.room > 0 && len(others) >= b.room {
		return &pods.Rejection{Reason: "OutOfpods", Message: fmt.Sprintf("no room beside %d", len(others)), Short: []pods.Shortage{{}}}
	}
	return nil
}

func (b *bench) Set(pod *v1.Pod, s v1.PodStatus) bool {
	b.told = append(b.told, fmt.Sprintf("%s: %s %s: %s", pod.Name, s.Phase, s.Reason, s.Message))
	return true
}

func (b *bench) Get(uid types.UID) (v1.PodStatus, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.statuses[uid]
	return s, ok
}

func (b *bench) Listed() <-chan struct{} { return b.listed }

func (b *bench) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.updates)
}

func start(t *testing.T, sources ...string) *bench {
	b := startBlind(t, sources...)
	close(b.listed)
	return b
}

// startBlind is start for a loop that does not know yet what runs.
func startBlind(t *testing.T, sources ...string) *bench {
	b := &bench{
		listed: make(chan struct{}), known: map[types.UID]worker.Phase{}, reject: map[string]pods.Rejection{}, view: []*actual.Pod{},
		changes: make(chan source.Change), events: make(chan pleg.Event), probes: make(chan probe.Changed), store: podstore.New(),
		wakeups: NewWakeups(), evictions: make(chan worker.Update), cleared: make(chan struct{}), calledOff: make(chan struct{}),
	}
	b.metrics = prometheus.NewPedanticRegistry()
	starts, err := podstart.New(b.metrics, clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(Config{
		Starts: starts, Sources: sources, Changes: b.changes, Events: b.events, Probes: b.probes,
		Store: b.store, Wakeups: b.wakeups, Evictions: b.evictions, Cleared: b.cleared, CalledOff: b.calledOff, Workers: b, Runtime: b, Clock: clock.RealClock{},
		Admission: b, Preemption: &b.preempted, Statuses: b, Refresh: func(ctx context.Context) error { return b.refresh(ctx) },
		Mirrors: func(n types.NamespacedName) {
			_, static := b.store.ByName(n.Namespace, n.Name)
			_, mirror := b.store.MirrorByName(n.Namespace, n.Name)
			b.mirrors = append(b.mirrors, fmt.Sprintf("%s static=%v mirror=%v", n.Name, static, mirror))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, l.Run)
	return b
}

func pod(uid, name string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Name: name, Namespace: "default"}}
}

func TestChangesReachTheWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		p := pod("1", "web")
		for _, op := range []source.Op{source.Add, source.Update, source.Reconcile, source.Delete, source.Remove} {
			b.changes <- source.Change{Op: op, Source: pods.SourceFile, Pods: []*v1.Pod{p}}
		}
		synctest.Wait()
		want := []string{"create 1", "change 1", "sync 1", "kill 1", "kill removed 1"}
		if got := b.said(); !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
		if _, ok := b.store.Get("1"); ok {
			t.Error("a removed pod is still wanted")
		}
	})
}

func TestThePodsThatTheWatchShowsStartingAreMeasured(t *testing.T) {
	for name, tc := range map[string]struct {
		ops  []source.Op // before it runs
		runs bool        // already when it comes
		want uint64
	}{
		"a new one":            {ops: []source.Op{source.Add, source.Reconcile, source.Update}, want: 1},
		"one that runs":        {ops: []source.Op{source.Add}, runs: true},
		"one that has gone":    {ops: []source.Op{source.Add, source.Remove}},
		"one that nobody told": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, pods.SourceAPI)
				p := pod("1", "web")
				p.CreationTimestamp = metav1.NewTime(time.Now())
				p.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceAPI}
				p.Spec.Containers = []v1.Container{{Name: "c"}}
				if tc.runs {
					b.view = []*actual.Pod{{UID: "1", Containers: []actual.Container{{Name: "c", State: actual.StateRunning}}}}
				}
				for _, op := range tc.ops {
					b.changes <- source.Change{Op: op, Source: pods.SourceAPI, Pods: []*v1.Pod{p}}
				}
				time.Sleep(3 * time.Second)
				now := p.DeepCopy()
				now.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.Now()}}}}
				for range 2 {
					b.changes <- source.Change{Op: source.Reconcile, Source: pods.SourceAPI, Pods: []*v1.Pod{now}}
				}
				synctest.Wait()
				families, err := b.metrics.Gather()
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range families {
					if h := f.Metric[0].GetHistogram(); h != nil && (h.GetSampleCount() != tc.want || h.GetSampleSum() != 3*float64(tc.want)) {
						t.Errorf("%s: %d pods in %v s, want %d in 3 s each", f.GetName(), h.GetSampleCount(), h.GetSampleSum(), tc.want)
					}
				}
			})
		})
	}
}

func TestEventsSyncWantedPodsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{pod("1", "web")}}
		b.events <- pleg.Event{PodUID: "1", Type: pleg.ContainerDied}
		b.events <- pleg.Event{PodUID: "1", Type: pleg.ContainerRemoved}
		b.events <- pleg.Event{PodUID: "foreign", Type: pleg.ContainerStarted}
		b.probes <- probe.Changed{Pod: "1"}
		synctest.Wait()
		want := []string{"create 1", "sync 1", "sync 1"}
		if got := b.said(); !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
	})
}

func TestDuePodsAreSyncedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{pod("1", "web")}}
		b.mu.Lock()
		b.due = []types.UID{"1", "leaving"}
		b.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		want := []string{"create 1", "sync 1", "sync orphan leaving"}
		if got := b.said(); !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
	})
}

func TestNothingIsCleanedUpBeforeEverySourceHasSpoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile, pods.SourceHTTP)
		b.view = []*actual.Pod{{UID: "orphan", Name: "o", Namespace: "default"}}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := b.said(); len(got) != 0 || len(b.cleaned) != 0 {
			t.Fatalf("with a silent source: updates %v, cleaned %d times; want nothing", got, len(b.cleaned))
		}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceHTTP, Pods: []*v1.Pod{pod("1", "web")}}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := b.said(); !slices.Contains(got, "kill orphan removed orphan") {
			t.Errorf("updates = %v, want the orphan killed", got)
		}
		if len(b.cleaned) == 0 || b.cleaned[0]("1") || b.cleaned[0]("orphan") || !b.cleaned[0]("other") {
			t.Error("the pod and what still runs are not gone, and another one is")
		}
	})
}

func TestRejectedPodDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		b.reject["bad"] = pods.Rejection{Reason: "NodePorts", Message: "taken"}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{pod("1", "web"), pod("2", "bad"), pod("3", "db")}}
		synctest.Wait()
		if got, want := b.said(), []string{"create 1", "create 3"}; !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
		if want := []string{"bad: Failed NodePorts: Pod was rejected: taken beside 1"}; !slices.Equal(b.told, want) {
			t.Errorf("rejections = %v, want %v", b.told, want)
		}
	})
}

// The worker that takes leave of a pod removes its status, the rejection too.
func TestPodThatComesBackBeforeItIsGoneIsRejectedOnceItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI, pods.SourceHTTP) // the URL is silent
		for _, name := range []string{"full", "room", "gone"} {
			b.reject[name] = pods.Rejection{Reason: "OutOfcpu", Message: "no cpu"}
			b.known[types.UID(name)] = worker.Terminated
		}
		b.add(pod("full", "full"), pod("room", "room"), pod("gone", "gone"))
		b.changes <- source.Change{Op: source.Remove, Source: pods.SourceAPI, Pods: []*v1.Pod{pod("gone", "gone")}}
		time.Sleep(housekeepingPeriod)
		synctest.Wait()
		if len(b.told) > 0 {
			t.Errorf("told %v before the first life was over", b.told)
		}
		b.mu.Lock()
		clear(b.known)
		delete(b.reject, "room")
		b.mu.Unlock()
		time.Sleep(2 * housekeepingPeriod)
		synctest.Wait()
		if want := []string{"full: Failed OutOfcpu: Pod was rejected: no cpu beside 0"}; !slices.Equal(b.told, want) {
			t.Errorf("told %v, want %v", b.told, want)
		}
		if got, want := b.said(), []string{"kill removed gone", "create room"}; !slices.Equal(got, want) {
			t.Errorf("updates %v, want %v", got, want)
		}
	})
}

// The worker that takes leave of a pod is told of the deletion, and takes that along as well.
func TestPodThatComesBackAndIsDeletedBeforeItIsGoneIsReported(t *testing.T) {
	for _, r := range []pods.Rejection{{Reason: "OutOfcpu"}, unlabelled} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, pods.SourceAPI)
			answer := make(chan struct{})
			b.refresh = func(context.Context) error { <-answer; return nil }
			b.reject["a"] = r
			b.known["a"] = worker.Terminated
			b.add(pod("a", "a"))
			deleted := pod("a", "a")
			deleted.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			b.changes <- source.Change{Op: source.Delete, Source: pods.SourceAPI, Pods: []*v1.Pod{deleted}}
			if r.OfNode {
				answer <- struct{}{}
			}
			time.Sleep(2 * housekeepingPeriod)
			synctest.Wait()
			b.mu.Lock()
			clear(b.known)
			b.mu.Unlock()
			time.Sleep(2 * housekeepingPeriod)
			synctest.Wait()
			if got, want := b.said(), []string{"kill a", "kill a"}; !slices.Equal(got, want) {
				t.Errorf("%s: updates %v, want %v", r.Reason, got, want)
			}
		})
	}
}

func TestRunningPodIsNotJudgedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		b.reject["bad"] = pods.Rejection{Reason: "NodePorts"}
		b.view = []*actual.Pod{{UID: "2", Name: "bad", Namespace: "default", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{pod("2", "bad")}}
		synctest.Wait()
		if got, want := b.said(), []string{"create 2"}; !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
	})
}

func TestMirrorPodIsStoredNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		m := pod("m", "web")
		m.Annotations = map[string]string{pods.AnnotationConfigMirror: "hash"}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceAPI, Pods: []*v1.Pod{m}}
		b.changes <- source.Change{Op: source.Update, Source: pods.SourceAPI, Pods: []*v1.Pod{m}}
		b.changes <- source.Change{Op: source.Remove, Source: pods.SourceAPI, Pods: []*v1.Pod{m}}
		synctest.Wait()
		if got := b.said(); len(got) != 0 {
			t.Errorf("updates = %v, want none", got)
		}
	})
}

func TestHangingCleanUpDoesNotHoldUpTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		release := make(chan struct{})
		defer close(release)
		b.clean = func() { <-release }
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile}
		time.Sleep(10 * time.Second)
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{pod("1", "web")}}
		synctest.Wait()
		if got, want := b.said(), []string{"create 1"}; !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
	})
}

func TestMirrorsAreToldOnceTheStoreKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile, pods.SourceAPI)
		static, mirror, ordinary := pod("s", "web"), pod("m", "web"), pod("o", "db")
		static.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceFile}
		mirror.Annotations = map[string]string{pods.AnnotationConfigMirror: "hash", pods.AnnotationConfigSource: pods.SourceAPI}
		ordinary.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceAPI}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceAPI, Pods: []*v1.Pod{ordinary, mirror}}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{static}}
		b.changes <- source.Change{Op: source.Reconcile, Source: pods.SourceAPI, Pods: []*v1.Pod{mirror, ordinary}}
		b.changes <- source.Change{Op: source.Remove, Source: pods.SourceAPI, Pods: []*v1.Pod{mirror}}
		b.changes <- source.Change{Op: source.Remove, Source: pods.SourceFile, Pods: []*v1.Pod{static}}
		synctest.Wait()
		want := []string{
			"web static=false mirror=true", "web static=true mirror=true", "web static=true mirror=true",
			"web static=true mirror=false", "web static=false mirror=false",
		}
		if !slices.Equal(b.mirrors, want) {
			t.Errorf("told %q, want %q", b.mirrors, want)
		}
	})
}

func TestPodThatIsOverIsNotJudgedAndUsesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI)
		b.reject["done"] = pods.Rejection{Reason: "OutOfcpu"}
		b.reject["late"] = pods.Rejection{Reason: "OutOfcpu", Message: "full"}
		done, failed, deleted := pod("1", "done"), pod("2", "done"), pod("3", "done")
		done.Status.Phase, failed.Status.Phase = v1.PodSucceeded, v1.PodFailed
		now := metav1.Now()
		deleted.DeletionTimestamp = &now
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceAPI, Pods: []*v1.Pod{done, failed, deleted}}
		synctest.Wait()
		if got, want := b.said(), []string{"create 1", "create 2", "create 3"}; !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
		// Beside it there is the deleted pod, which is yet to stop, in both ways.
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceAPI, Pods: []*v1.Pod{pod("4", "late")}}
		again := pod("5", "done")
		again.Status.Phase = v1.PodSucceeded
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceAPI, Pods: []*v1.Pod{again, pod("6", "late")}}
		synctest.Wait()
		if want := []string{"late: Failed OutOfcpu: Pod was rejected: full beside 1", "late: Failed OutOfcpu: Pod was rejected: full beside 1"}; !slices.Equal(b.told, want) {
			t.Errorf("rejections = %q, want %q", b.told, want)
		}
	})
}

func TestPodThatIsOverUsesTheNodeWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI)
		b.view = []*actual.Pod{{UID: "1", Name: "stuck", Namespace: "default", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}
		b.reject["late"] = pods.Rejection{Reason: "OutOfcpu", Message: "full"}
		stuck := pod("1", "stuck")
		stuck.Status.Phase = v1.PodFailed
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceAPI, Pods: []*v1.Pod{stuck, pod("2", "late")}}
		synctest.Wait()
		if want := []string{"late: Failed OutOfcpu: Pod was rejected: full beside 1"}; !slices.Equal(b.told, want) {
			t.Errorf("rejections = %q, want %q", b.told, want)
		}
	})
}

func TestWhatIsWantedWaitsUntilItIsKnownWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBlind(t, pods.SourceFile)
		b.reject["bad"] = pods.Rejection{Reason: "NodePorts"}
		go func() {
			b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{pod("2", "bad")}}
		}()
		time.Sleep(10 * time.Second)
		if got := b.said(); len(got) != 0 || len(b.told) != 0 {
			t.Fatalf("updates %v, rejections %v before the runtime was looked at", got, b.told)
		}
		b.view = []*actual.Pod{{UID: "2", Name: "bad", Namespace: "default", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}
		close(b.listed)
		synctest.Wait()
		if got, want := b.said(), []string{"create 2"}; !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
	})
}

func TestNewPodsAreJudgedWhenAllThatIsWantedIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile, pods.SourceHTTP)
		maybe := map[string][]bool{} // by pod that is judged: of pods 1, 2 and 9
		b.judged = func(pod *v1.Pod) {
			for _, uid := range []types.UID{"1", "2", "9"} {
				maybe[pod.Name] = append(maybe[pod.Name], b.store.MayBeWanted(uid))
			}
		}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{pod("0", "early")}}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceHTTP, Pods: []*v1.Pod{pod("1", "web"), pod("2", "db")}}
		synctest.Wait()
		for name, want := range map[string][]bool{"early": {true, true, true}, "web": {true, true, false}, "db": {true, true, false}} {
			if !slices.Equal(maybe[name], want) {
				t.Errorf("when %s was judged, 1, 2 and 9 may have been wanted: %v, want %v", name, maybe[name], want)
			}
		}
	})
}

func TestStaticPodsThatTheNodeWasTooShortForAreJudgedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		static := func(uid string) *v1.Pod {
			p := pod(uid, uid)
			p.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceFile}
			return p
		}
		b.reject["late"] = pods.Rejection{Reason: "Evicted", Pressure: true}
		b.reject["bad"] = pods.Rejection{Reason: "NodePorts"}
		hog, late, removed, once, done := static("hog"), static("late"), static("removed"), static("once"), static("done")
		once.Spec.RestartPolicy, done.Spec.RestartPolicy = v1.RestartPolicyNever, v1.RestartPolicyOnFailure
		late.Spec.RestartPolicy = v1.RestartPolicyNever // which it has not run yet
		b.statuses = map[types.UID]v1.PodStatus{"done": {Phase: v1.PodSucceeded}}
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{hog, late, removed, once, done, static("bad"), pod("of the API", "of the API")}}
		for _, p := range []*v1.Pod{hog, removed, once, done, pod("of the API", "of the API")} {
			b.evictions <- worker.Update{Kind: worker.Kill, Pod: p, Explain: func(s *v1.PodStatus) { s.Reason = "Evicted" }}
		}
		for _, uid := range []string{"hog", "once", "done"} {
			b.phase(uid, worker.Terminated)
		}
		b.evictions <- worker.Update{Kind: worker.Kill, Pod: static("ends with the machine"), Explain: func(*v1.PodStatus) {}}
		b.changes <- source.Change{Op: source.Remove, Source: pods.SourceFile, Pods: []*v1.Pod{removed}}
		synctest.Wait()
		b.mu.Lock()
		b.updates = nil
		b.mu.Unlock()
		delete(b.reject, "late")
		b.cleared <- struct{}{}
		synctest.Wait()
		if got, want := slices.Sorted(slices.Values(b.said())), []string{"kill removed hog", "kill removed late"}; !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
		b.mu.Lock()
		clear(b.known) // they are gone
		b.updates = nil
		b.mu.Unlock()
		time.Sleep(2 * housekeepingPeriod)
		b.cleared <- struct{}{} // once is enough
		synctest.Wait()
		if got, want := slices.Sorted(slices.Values(b.said())), []string{"create hog", "create late"}; !slices.Equal(got, want) {
			t.Errorf("updates = %v, want %v", got, want)
		}
	})
}

func TestStaticPodsThatACalledOffShutdownEndedOrKeptOutAreJudgedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceFile)
		b.reject["late"] = pods.Rejection{Reason: "NodeShutdown", Shutdown: true}
		once := static("once", "once")
		once.Spec.RestartPolicy = v1.RestartPolicyNever
		b.add(static("hog", "hog"), static("first", "first"), once, pod("of the API", "of the API"))
		// hog has to go, comes back while the machine is being shut down, and is kept out then.
		b.evictions <- worker.Update{Kind: worker.Kill, Pod: static("hog", "hog"), Explain: func(s *v1.PodStatus) { s.Reason = "Evicted" }}
		b.reject["hog"] = pods.Rejection{Reason: "NodeShutdown", Shutdown: true}
		for _, p := range []*v1.Pod{static("first", "first"), once, pod("of the API", "of the API")} {
			b.evictions <- worker.Update{Kind: worker.Kill, Pod: p, Explain: func(s *v1.PodStatus) { s.Reason = "Terminated" }}
		}
		b.add(static("late", "late"), pod("another", "late"))
		synctest.Wait()
		b.phase("hog", worker.Terminated)
		b.cleared <- struct{}{}
		synctest.Wait()
		b.gone("hog")
		time.Sleep(2 * housekeepingPeriod)
		synctest.Wait()
		b.mu.Lock()
		b.updates = nil
		b.mu.Unlock()
		clear(b.reject)
		b.cleared <- struct{}{} // brings nobody back that this is not about
		b.calledOff <- struct{}{}
		synctest.Wait()
		if got, want := slices.Sorted(slices.Values(b.said())), []string{"kill removed hog", "kill removed late"}; !slices.Equal(got, want) {
			t.Errorf("updates %q, want %q", got, want)
		}
		b.phase("first", worker.Terminated) // it took its time
		b.phase("once", worker.Terminated)
		time.Sleep(housekeepingPeriod)
		synctest.Wait()
		b.gone("first")
		time.Sleep(2 * housekeepingPeriod)
		b.calledOff <- struct{}{} // once is enough
		synctest.Wait()
		want := []string{"create first", "create hog", "create late", "kill removed first", "kill removed hog", "kill removed late"}
		if got := slices.Sorted(slices.Values(b.said())); !slices.Equal(got, want) {
			t.Errorf("updates %q, want %q", got, want)
		}
	})
}
