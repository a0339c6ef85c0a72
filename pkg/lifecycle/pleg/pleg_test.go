package pleg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func podOf(uid string, containers ...actual.Container) *actual.Pod {
	return &actual.Pod{UID: types.UID(uid), Name: uid, Namespace: "default", Containers: containers}
}

func container(id string, state actual.State) actual.Container {
	return actual.Container{ID: id, Name: id, State: state}
}

func TestDiff(t *testing.T) {
	running, exited, created, unknown := actual.StateRunning, actual.StateExited, actual.StateCreated, actual.StateUnknown
	tests := []struct {
		name        string
		before, now *actual.Pod
		want        []string
	}{
		{"nothing happened", podOf("p", container("a", running)), podOf("p", container("a", running)), nil},
		{"a pod appeared running", nil, podOf("p", container("a", running)), []string{"ContainerStarted a"}},
		{"a container that is only created is no news", nil, podOf("p", container("a", created)), nil},
		{"a created container started", podOf("p", container("a", created)), podOf("p", container("a", running)), []string{"ContainerStarted a"}},
		{"a container died", podOf("p", container("a", running)), podOf("p", container("a", exited)), []string{"ContainerDied a"}},
		{"a container appeared dead", nil, podOf("p", container("a", exited)), []string{"ContainerDied a"}},
		{"a dead container was removed", podOf("p", container("a", exited)), podOf("p"), []string{"ContainerRemoved a"}},
		{"a running container vanished", podOf("p", container("a", running)), podOf("p"), []string{"ContainerDied a", "ContainerRemoved a"}},
		{"a pod vanished", podOf("p", container("a", running)), nil, []string{"ContainerDied a", "ContainerRemoved a"}},
		{"a container became unknown", podOf("p", container("a", running)), podOf("p", container("a", unknown)), []string{"ContainerChanged a"}},
		{"one was replaced by another", podOf("p", container("a", running)), podOf("p", container("b", running), container("a", exited)), []string{"ContainerStarted b", "ContainerDied a"}},
		{"no pod before or after", nil, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, e := range diff(tt.before, tt.now) {
				if e.PodUID != "p" {
					t.Errorf("event of pod %q", e.PodUID)
				}
				got = append(got, fmt.Sprintf("%s %s", e.Type, e.ContainerID))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("diff() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDiffTellsOfSandboxes(t *testing.T) {
	before := &actual.Pod{UID: "p", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}
	now := &actual.Pod{UID: "p", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateExited}}}
	if got := diff(before, now); len(got) != 1 || got[0].Type != ContainerDied || got[0].ContainerID != "s" {
		t.Errorf("diff() = %v, want the sandbox's death", got)
	}
}

func TestAnEndThatIsToldOtherwiseIsAChange(t *testing.T) {
	of := func(state actual.State, reason string, code int32) *actual.PodStatus {
		return &actual.PodStatus{UID: "p", Containers: []*actual.ContainerStatus{
			{ID: actual.ContainerID{Runtime: "docker", ID: "c"}, State: state, Reason: reason, ExitCode: code},
		}}
	}
	for name, tt := range map[string]struct {
		before, now *actual.PodStatus
		want        int
	}{
		"killed for lack of memory, it turns out": {of(actual.StateExited, "Error", 137), of(actual.StateExited, "OOMKilled", 137), 1},
		"another code":                 {of(actual.StateExited, "Error", 1), of(actual.StateExited, "Error", 2), 1},
		"the same":                     {of(actual.StateExited, "Error", 1), of(actual.StateExited, "Error", 1), 0},
		"an end, which the lists show": {of(actual.StateRunning, "", 0), of(actual.StateExited, "Error", 1), 0},
		"nothing was known":            {nil, of(actual.StateExited, "Error", 1), 0},
		"nothing is left":              {of(actual.StateExited, "Error", 1), nil, 0},
	} {
		if got := corrected(tt.before, tt.now); len(got) != tt.want || len(got) > 0 && (got[0] != Event{PodUID: "p", Type: ContainerChanged, ContainerID: "c"}) {
			t.Errorf("%s: %v, want %d", name, got, tt.want)
		}
	}
}

// engine is a runtime in memory.
type engine struct {
	mu        sync.Mutex
	pods      map[types.UID]*actual.Pod
	listErr   error
	hang      map[types.UID]bool
	inspected []types.UID
	lists     int
	tell      func(types.UID)
	breaks    chan error
	hold      chan struct{} // lists wait until it is closed; nil: they do not
	slow      chan struct{} // so does the next inspection
}

func newEngine() *engine {
	return &engine{pods: map[types.UID]*actual.Pod{}, hang: map[types.UID]bool{}, breaks: make(chan error)}
}

func (e *engine) set(p *actual.Pod) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pods[p.UID] = p
}

func (e *engine) remove(uid types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.pods, uid)
}

func (e *engine) GetPods(context.Context) ([]*actual.Pod, error) {
	if e.hold != nil {
		<-e.hold
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lists++
	var pods []*actual.Pod
	for _, p := range e.pods {
		pods = append(pods, p)
	}
	return pods, e.listErr
}

func (e *engine) GetPod(_ context.Context, uid types.UID) (*actual.Pod, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pods[uid], e.listErr
}

func (e *engine) GetPodStatus(ctx context.Context, p *actual.Pod) (*actual.PodStatus, error) {
	e.mu.Lock()
	hang, slow := e.hang[p.UID], e.slow
	e.slow = nil
	e.inspected = append(e.inspected, p.UID)
	e.mu.Unlock()
	if slow != nil {
		<-slow
	}
	if hang {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	s := &actual.PodStatus{UID: p.UID, Name: p.Name, ObservedAt: time.Now()}
	for _, c := range p.Containers {
		s.Containers = append(s.Containers, &actual.ContainerStatus{Name: c.Name, State: c.State})
	}
	return s, nil
}

func (e *engine) Follow(ctx context.Context, tell func(types.UID)) error {
	e.mu.Lock()
	e.tell = tell
	e.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-e.breaks:
		return err
	}
}

func (e *engine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.inspected)
}

func start(t *testing.T, e *engine, period time.Duration) *PLEG {
	p, err := New(Config{Runtime: e, Period: period})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, p.Run)
	return p
}

func drain(p *PLEG) []string {
	var got []string
	for {
		select {
		case e := <-p.Events():
			got = append(got, fmt.Sprintf("%s %s/%s", e.Type, e.PodUID, e.ContainerID))
		default:
			return got
		}
	}
}

func TestRelistFindsWhatNoEventTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := start(t, e, time.Second)
		synctest.Wait()
		e.set(podOf("p", container("a", actual.StateRunning)))
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if got := drain(p); !slices.Equal(got, []string{"ContainerStarted p/a"}) {
			t.Errorf("events = %v", got)
		}
		e.remove("p")
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if got := drain(p); !slices.Equal(got, []string{"ContainerDied p/a", "ContainerRemoved p/a"}) {
			t.Errorf("events = %v", got)
		}
	})
}

func TestEventLooksAtOnceAndAtThatPodOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.set(podOf("p", container("a", actual.StateRunning)))
		e.set(podOf("q", container("b", actual.StateRunning)))
		p := start(t, e, time.Hour)
		synctest.Wait()
		drain(p)
		looked := e.count()
		begun := time.Now()
		e.set(podOf("p", container("a", actual.StateExited)))
		for range 5 { // a burst is one look
			e.tell("p")
		}
		ev := <-p.Events()
		if ev.Type != ContainerDied || time.Since(begun) > 100*time.Millisecond {
			t.Errorf("got %v after %v, want the death within 100 ms", ev, time.Since(begun))
		}
		synctest.Wait()
		if n := e.count() - looked; n != 1 {
			t.Errorf("%d inspections for one burst of events, want 1", n)
		}
	})
}

func TestUnchangedPodsAreNotInspected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		for i := range 50 {
			e.set(podOf(fmt.Sprint(i), container("a", actual.StateRunning)))
		}
		start(t, e, time.Second)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := e.count(); got != 50 {
			t.Errorf("%d inspections of 50 unchanged pods, want 50", got)
		}
		if e.lists < 10 {
			t.Errorf("%d relists in 10 s", e.lists)
		}
	})
}

func TestHangingPodHoldsUpNeitherOthersNorHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		for i := range 2 * looks {
			uid := fmt.Sprintf("stuck%d", i)
			e.hang[types.UID(uid)] = true
			e.set(podOf(uid, container("a", actual.StateRunning)))
		}
		p := start(t, e, time.Second)
		time.Sleep(10*time.Second + 500*time.Millisecond) // between two relists
		e.set(podOf("good", container("g", actual.StateRunning)))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s, err := p.GetNewerThan(ctx, "good", time.Now())
		if err != nil || len(s.Containers) != 1 {
			t.Errorf("status of a good pod beside stuck ones = %v, %v", s, err)
		}
		time.Sleep(10 * time.Minute)
		if err := p.Healthy(time.Now()); err != nil {
			t.Errorf("Healthy: %v", err)
		}
		if _, err := p.GetNewerThan(t.Context(), "stuck0", time.Now()); err == nil {
			t.Error("the status of a stuck pod came without an error")
		}
		e.mu.Lock()
		e.hang = map[types.UID]bool{}
		e.mu.Unlock()
		time.Sleep(5 * time.Minute)
		if s, err := p.GetNewerThan(t.Context(), "stuck0", time.Now()); err != nil || len(s.Containers) != 1 {
			t.Errorf("after it answered again: %v, %v", s, err)
		}
	})
}

func TestNoStatusBeforeTheFirstRelist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.listErr = errors.New("no daemon")
		p := start(t, e, time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := p.GetNewerThan(ctx, "p", time.Time{}); err == nil {
			t.Error("an empty status was given though the runtime was never seen")
		}
		if p.Pods() != nil {
			t.Error("there is a view though the runtime was never seen")
		}
		e.mu.Lock()
		e.listErr = nil
		e.mu.Unlock()
		e.set(podOf("p", container("a", actual.StateRunning)))
		s, err := p.GetNewerThan(t.Context(), "p", time.Time{})
		if err != nil || len(s.Containers) != 1 {
			t.Errorf("first status = %v, %v; want the running container", s, err)
		}
	})
}

func TestGetNewerThanLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.set(podOf("p", container("a", actual.StateRunning)))
		p := start(t, e, time.Hour)
		synctest.Wait()
		e.set(podOf("p", container("a", actual.StateExited)))
		time.Sleep(time.Second)
		begun := time.Now()
		s, err := p.GetNewerThan(t.Context(), "p", begun)
		if err != nil || s.Containers[0].State != actual.StateExited {
			t.Errorf("status = %v, %v; want the exit", s, err)
		}
		if d := time.Since(begun); d > 100*time.Millisecond {
			t.Errorf("it took %v, want a look at once", d)
		}
		// A pod that is not there is known not to be there.
		if s, err := p.GetNewerThan(t.Context(), "nobody", time.Now()); err != nil || len(s.Containers) != 0 {
			t.Errorf("unknown pod: %v, %v", s, err)
		}
	})
}

// A slow look began before a list that has found something newer.
func TestAStatusIsNotVouchedForByAListThatFoundItChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.set(podOf("p"))
		p := start(t, e, time.Second)
		synctest.Wait()
		first, second := make(chan struct{}), make(chan struct{})
		e.slow = first
		p.Relist("p") // sees no container
		synctest.Wait()
		time.Sleep(time.Millisecond)
		e.set(podOf("p", container("a", actual.StateRunning)))
		started := time.Now()
		time.Sleep(time.Second) // a list sees it
		synctest.Wait()
		e.slow = second
		close(first)
		synctest.Wait()
		got := make(chan *actual.PodStatus, 1)
		go func() {
			s, err := p.GetNewerThan(t.Context(), "p", started)
			if err != nil {
				t.Error(err)
			}
			got <- s
		}()
		synctest.Wait()
		close(second)
		if s := <-got; s == nil || len(s.Containers) != 1 {
			t.Errorf("status = %+v, want the container that was started before it was asked for", s)
		}
	})
}

// No list shows the resources of a container.
func TestALookIsNotAnsweredByAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.set(podOf("p", container("a", actual.StateRunning)))
		p := start(t, e, time.Second)
		synctest.Wait()
		slow := make(chan struct{})
		e.slow = slow
		time.Sleep(time.Millisecond)
		got := make(chan *actual.PodStatus, 1)
		go func() {
			s, err := p.Look(t.Context(), "p")
			if err != nil {
				t.Error(err)
			}
			got <- s
		}()
		time.Sleep(3 * time.Second) // lists come and go
		synctest.Wait()
		select {
		case s := <-got:
			t.Fatalf("status of %v before the look had ended", s.ObservedAt)
		default:
		}
		close(slow)
		if s := <-got; s == nil || len(s.Containers) != 1 {
			t.Errorf("status = %+v", s)
		}
	})
}

func TestUnhealthyWhenNoRelistFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := start(t, e, time.Second)
		synctest.Wait()
		e.mu.Lock()
		e.listErr = errors.New("daemon hangs")
		e.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if err := p.Healthy(time.Now()); err != nil {
			t.Errorf("after 2 min: %v", err)
		}
		time.Sleep(90 * time.Second)
		err := p.Healthy(time.Now())
		if err == nil {
			t.Fatal("healthy though no relist finished for 3 min")
		}
		t.Log(err)
	})
}

func TestBrokenEventStreamIsFollowedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.set(podOf("p", container("a", actual.StateRunning)))
		p := start(t, e, time.Hour)
		synctest.Wait()
		drain(p)
		e.breaks <- errors.New("daemon restarted")
		time.Sleep(time.Second)
		synctest.Wait()
		e.set(podOf("p", container("a", actual.StateExited)))
		e.tell("p")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := drain(p); len(got) != 1 {
			t.Errorf("events after the stream broke = %v", got)
		}
	})
}

func TestNothingIsDroppedWhenTheLoopIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		const n = eventCapacity + 500
		for i := range n {
			e.set(podOf(fmt.Sprint(i), container("a", actual.StateRunning)))
		}
		p := start(t, e, time.Second)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		got := 0
		for range n {
			<-p.Events()
			got++
		}
		if got != n {
			t.Errorf("%d events, want %d", got, n)
		}
	})
}

func TestGonePodsLeaveNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := start(t, e, time.Second)
		for i := range 20 {
			uid := types.UID(fmt.Sprint(i))
			e.set(podOf(string(uid), container("a", actual.StateExited)))
			p.Relist(uid)
			synctest.Wait()
			e.remove(uid)
			p.Relist(uid)
			synctest.Wait()
		}
		drain(p)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if a, b, c, d := len(p.cache.pods), len(p.cache.suspect), len(p.view), len(p.looked); a+b+c+d != 0 {
			t.Errorf("left of 20 pods that came and went: %d statuses, %d suspects, %d views, %d looks", a, b, c, d)
		}
		if v := p.Pods(); len(v) != 0 {
			t.Errorf("view = %v", v)
		}
	})
}

func TestALookBeforeTheFirstListIsNoViewOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.hold = make(chan struct{})
		e.set(podOf("p", container("a", actual.StateRunning)))
		e.set(podOf("q", container("b", actual.StateRunning)))
		p := start(t, e, time.Second)
		p.Relist("p")
		synctest.Wait()
		if e.count() != 1 || p.Pods() != nil {
			t.Fatalf("after %d looks: view = %v, want none yet", e.count(), p.Pods())
		}
		select {
		case <-p.Listed():
			t.Fatal("listed before the first list")
		default:
		}
		close(e.hold)
		<-p.Listed()
		if got := p.Pods(); len(got) != 2 {
			t.Errorf("view = %v, want both pods", got)
		}
	})
}
