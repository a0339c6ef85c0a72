package harness

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Events records what Docker itself reports about the containers of one agent, in
// its order and with its times: a witness that no test can argue with.
type Events struct {
	agent *Agent
	mu    sync.Mutex
	all   []Event
}

// Event is one Docker event for a container of a pod.
type Event struct {
	Action    string // start, die, kill, destroy, ...
	Pod       string // name in the manifest
	Container string // name in the pod, Sandbox for the sandbox
	ID        string
	UID       string
	ExitCode  string // of a die
	Signal    string // of a kill
	At        time.Time
}

// WatchEvents records the events of the agent's containers from now on, until the
// test ends.
func WatchEvents(a *Agent) *Events {
	a.t.Helper()
	e := &Events{agent: a}
	ctx, cancel := context.WithCancel(context.Background())
	since := time.Now()
	messages, errs := a.Docker.Client.Events(ctx, events.ListOptions{
		Since:   since.Format(time.RFC3339Nano),
		Filters: filters.NewArgs(filters.Arg("type", "container")),
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case m := <-messages:
				e.add(m)
			case <-errs:
				return // the daemon went away, or the test ended
			}
		}
	}()
	a.t.Cleanup(func() {
		cancel()
		<-done
	})
	return e
}

func (e *Events) add(m events.Message) {
	f := strings.Split(m.Actor.Attributes["name"], "_")
	pod, of := "", false
	if len(f) >= 6 && f[0] == "k8s" {
		pod, of = strings.CutSuffix(f[2], "-"+e.agent.Node)
	}
	if !of {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, Event{
		Action: string(m.Action), Pod: pod, Container: f[1], UID: f[4], ID: m.Actor.ID,
		ExitCode: m.Actor.Attributes["exitCode"], Signal: m.Actor.Attributes["signal"],
		At: time.Unix(0, m.TimeNano),
	})
}

// Of returns the events with that action for the pod's container, oldest first.
// Empty strings match everything.
func (e *Events) Of(action, pod, container string) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var of []Event
	for _, ev := range e.all {
		if (action == "" || ev.Action == action) && (pod == "" || ev.Pod == pod) && (container == "" || ev.Container == container) {
			of = append(of, ev)
		}
	}
	return of
}

// Wait waits until the pod's container has had n events with that action, and
// returns them.
func (e *Events) Wait(n int, action, pod, container string, patience time.Duration) []Event {
	e.agent.t.Helper()
	var of []Event
	Eventually(e.agent.t, "Docker says "+action+" of "+pod+"/"+container, patience, func() error {
		if of = e.Of(action, pod, container); len(of) < n {
			return errTooFew(len(of), n)
		}
		return nil
	}, e.agent.Explain)
	return of
}
