package shutdown

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// machine is a Machine whose shutdowns the test announces.
type machine struct {
	mu     sync.Mutex
	says   chan bool
	locks  int   // that are held
	broken error // no connection
}

func (m *machine) Watch(context.Context, time.Duration) (Watch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return nil, m.broken
	}
	m.says = make(chan bool)
	return connection{m, m.says}, nil
}

type connection struct {
	*machine
	says chan bool
}

func (c connection) Inhibit(context.Context) (io.Closer, error) {
	c.hold(1)
	return lock{c.machine}, nil
}
func (c connection) Shutdowns() <-chan bool { return c.says }
func (c connection) Close() error           { return nil }

type lock struct{ *machine }

func (l lock) Close() error { l.hold(-1); return nil }

// say announces a shutdown, or calls it off.
func (m *machine) say(begins bool) {
	m.mu.Lock()
	says := m.says
	m.mu.Unlock()
	says <- begins
}

// cut ends the connection, and lets another be made if err is nil.
func (m *machine) cut(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken == nil {
		close(m.says)
	}
	m.broken = err
}

func (m *machine) hold(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.locks += n
}

func (m *machine) held() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.locks
}

// node has pods, and records who is told to stop.
type node struct {
	mu      sync.Mutex
	pods    []*v1.Pod
	ended   map[types.UID]bool
	told    []string
	events  []string
	updates chan worker.Update
}

func (n *node) add(name string, priority int32) {
	p := &v1.Pod{}
	p.Name, p.UID, p.Spec.Priority, p.Spec.TerminationGracePeriodSeconds = name, types.UID(name), &priority, new(int64(60))
	n.pods = append(n.pods, p)
}

func (n *node) take() (told []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	told, n.told = n.told, nil
	slices.Sort(told)
	return told
}

func (n *node) end(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended[types.UID(name)] = true
}

func start(t *testing.T, pods map[string]int32) (*machine, *node, *Manager) {
	t.Helper()
	m, n := &machine{}, &node{ended: map[types.UID]bool{}, updates: make(chan worker.Update)}
	for name, priority := range pods {
		n.add(name, priority)
	}
	manager, err := New(Config{
		Machine: m, Periods: []Period{{0, 10 * time.Second}, {1000, 5 * time.Second}}, Updates: n.updates, Clock: clock.RealClock{},
		Pods: func() []*v1.Pod { return n.pods },
		Ended: func(uid types.UID) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.ended[uid]
		},
		Event: func(_, reason, message string) { n.events = append(n.events, reason+": "+message) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(testrun.Start(t, func(ctx context.Context) error {
		for {
			select {
			case u := <-n.updates:
				var s v1.PodStatus
				u.Explain(&s)
				n.mu.Lock()
				n.told = append(n.told, fmt.Sprintf("%s %ds %s %s %s", u.Pod.Name, *u.Grace, s.Phase, s.Reason, s.Conditions[0].Type))
				n.mu.Unlock()
			case <-ctx.Done():
				return nil
			}
		}
	}))
	t.Cleanup(testrun.Start(t, manager.Run))
	synctest.Wait()
	return m, n, manager
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestPodsEndByPriorityBeforeTheMachineDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n, manager := start(t, map[string]int32{"low": 0, "slow": 0, "high": 1000})
		want(t, "locks", m.held(), 1)
		m.say(true)
		synctest.Wait()
		want(t, "told", n.take(), []string{"low 10s Failed Terminated DisruptionTarget", "slow 10s Failed Terminated DisruptionTarget"})
		want(t, "ending", manager.Ending(), true)
		n.end("low")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want(t, "told while one of the first group runs", n.take(), []string{})
		time.Sleep(6 * time.Second) // the group's time is up
		synctest.Wait()
		want(t, "told", n.take(), []string{"high 5s Failed Terminated DisruptionTarget"})
		want(t, "locks", m.held(), 1)
		n.end("high")
		time.Sleep(time.Second)
		synctest.Wait()
		want(t, "locks at the end", m.held(), 0)
		want(t, "events", n.events, []string{"NodeShutdown: Shutdown manager detected shutdown event"})
	})
}

func TestAShutdownThatIsCalledOffEndsNoMorePods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n, manager := start(t, map[string]int32{"low": 0, "high": 1000})
		m.say(true)
		m.say(true) // told twice
		synctest.Wait()
		n.take()
		want(t, "told of a call-off", len(manager.CalledOff()), 0)
		m.say(false)
		m.say(false)
		synctest.Wait()
		want(t, "told of a call-off", len(manager.CalledOff()), 1)
		time.Sleep(time.Minute)
		want(t, "told", n.take(), []string{})
		want(t, "locks", m.held(), 1)
		want(t, "ending", manager.Ending(), false)
		m.say(true)
		synctest.Wait()
		want(t, "told at the next one", n.take(), []string{"low 10s Failed Terminated DisruptionTarget"})
	})
}

func TestPodsAreEndedAlsoWhenTheConnectionBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n, manager := start(t, map[string]int32{"low": 0, "high": 1000})
		m.say(true)
		synctest.Wait()
		m.cut(errors.New("no bus"))
		time.Sleep(11 * time.Second)
		want(t, "told", n.take(), []string{"high 5s Failed Terminated DisruptionTarget", "low 10s Failed Terminated DisruptionTarget"})
		want(t, "ending", manager.Ending(), true)
		want(t, "locks, which need no connection", m.held(), 1)
		m.cut(nil)
		time.Sleep(2 * time.Second)
		m.say(true) // as it says at first
		n.end("high")
		time.Sleep(10 * time.Second)
		want(t, "locks at the end", m.held(), 0)
	})
}

func TestAShutdownThatIsCalledOffWhileNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n, manager := start(t, map[string]int32{"low": 0, "high": 1000})
		m.say(true)
		synctest.Wait()
		n.take()
		m.cut(errors.New("no bus"))
		time.Sleep(2 * time.Second)
		m.cut(nil)
		time.Sleep(2 * time.Second)
		m.say(false) // as it says at first
		synctest.Wait()
		want(t, "ending", manager.Ending(), false)
		want(t, "locks", m.held(), 1)
		time.Sleep(time.Minute)
		want(t, "told", n.take(), []string{})
	})
}

// shutdownGracePeriod alone leaves the critical pods none.
func TestPodsWithoutAnyTimeAreToldAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			m, n, manager := start(t, map[string]int32{"a": 1000, "b": 1000, "c": 1000})
			manager.cfg.Periods[1].Grace = 0
			m.say(true)
			synctest.Wait()
			want(t, "told", n.take(), []string{"a 0s Failed Terminated DisruptionTarget", "b 0s Failed Terminated DisruptionTarget", "c 0s Failed Terminated DisruptionTarget"})
			want(t, "locks", m.held(), 0)
		}
	})
}
