package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

// Event is an event of one of our containers.
type Event struct {
	ID        string // of the container or sandbox
	SandboxID string // of the container's sandbox; a sandbox names itself
	Identity  Identity
	Action    events.Action
	At        int64 // ns since the epoch
}

// IsSandbox reports whether the event is about a sandbox itself.
func (e Event) IsSandbox() bool { return e.ID == e.SandboxID }

// watched are the actions that change what CRI shows of a container.
var watched = []events.Action{
	events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionDestroy,
	events.ActionPause, events.ActionUnPause, events.ActionUpdate, events.ActionRename, events.ActionOOM,
}

// Watch keeps a subscription to Docker's events until ctx ends, and calls tell with each event
// of our containers, one after the other. While the subscription is broken nothing is cached;
// once it is back, tell hears of what happened meanwhile. It must be called only once.
func (c *Containers) Watch(ctx context.Context, tell func(Event)) error {
	least := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Steps: 10, Cap: 2 * time.Second}
	backoff, broken := least, false
	seen := map[string]Event{} // by ID, the last event of each container that changed its state
	for ctx.Err() == nil {
		begun := time.Now()
		err := c.follow(ctx, seen, tell, func() {
			if broken {
				klog.InfoS("Docker's event stream is back")
			}
			broken = false
		})
		c.setLive(false)
		if ctx.Err() != nil {
			break
		}
		if !broken {
			klog.InfoS("Docker's event stream broke, changes are noticed by listing until it is back", "err", err)
		}
		broken = true
		if time.Since(begun) > least.Cap {
			backoff = least
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Step()):
		}
	}
	return nil
}

// follow reads one event stream to its end.
func (c *Containers) follow(ctx context.Context, seen map[string]Event, tell func(Event), ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("label", c.label))
	for _, a := range watched {
		args.Add("event", string(a))
	}
	filter, err := filters.ToJSON(args)
	if err != nil {
		return err
	}
	// Docker sends its headers a moment before it subscribes us.
	now := time.Now()
	since := strconv.FormatInt(now.Unix(), 10) + fmt.Sprintf(".%09d", now.Nanosecond())
	resp, err := c.engine.get(ctx, "/events", url.Values{"filters": {filter}, "since": {since}}.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	c.setLive(true)
	if err := c.resync(ctx, seen, tell); err != nil {
		return err
	}
	ready()
	for dec := json.NewDecoder(resp.Body); ; {
		var m events.Message
		if err := dec.Decode(&m); err != nil {
			return err
		}
		e, ours := happened(&m)
		if !ours {
			continue
		}
		note(seen, e)
		c.belongs(e.ID, e.Identity.UID)
		c.happened(e.ID, e.Action)
		tell(e)
	}
}

// happened reads a message of Docker's; it returns false for a container that is not ours.
// Docker puts the labels among its own attributes; no label replaces the attribute "name".
func happened(m *events.Message) (Event, bool) {
	labels := trusted(m.Actor.Attributes)
	id, ok := IdentityOf(m.Actor.Attributes["name"], labels)
	if !ok || labels[LabelStateDir] == "" {
		return Event{}, false
	}
	e := Event{ID: m.Actor.ID, SandboxID: labels[LabelSandboxID], Identity: id, Action: m.Action, At: m.TimeNano}
	if labels[LabelType] == TypeSandbox {
		e.SandboxID = e.ID
	}
	return e, true
}

// note keeps the last state of each container, from which missed starts.
func note(seen map[string]Event, e Event) {
	switch e.Action {
	case events.ActionCreate, events.ActionStart, events.ActionDie:
		seen[e.ID] = e
	case events.ActionDestroy:
		delete(seen, e.ID)
	}
}

// resync lists, and tells what happened while nobody listened.
func (c *Containers) resync(ctx context.Context, seen map[string]Event, tell func(Event)) error {
	first := len(seen) == 0
	items, err := c.List(ctx, "")
	if err != nil {
		return err
	}
	for _, e := range missed(seen, items, time.Now().UnixNano()) {
		note(seen, e)
		if first {
			continue // there was nothing to compare with: start-up has seen to them
		}
		tell(e)
	}
	return nil
}

// missed returns the events that lead from what was seen to what is listed.
func missed(seen map[string]Event, items []Item, at int64) []Event {
	var all []Event
	there := make(map[string]bool, len(items))
	for _, it := range items {
		there[it.ID] = true
		e := Event{ID: it.ID, SandboxID: it.SandboxID, Identity: it.Identity, At: at}
		if it.IsSandbox {
			e.SandboxID = it.ID
		}
		add := func(a events.Action) {
			e.Action = a
			all = append(all, e)
		}
		before, known := seen[it.ID]
		if !known {
			add(events.ActionCreate)
		}
		started := known && before.Action != events.ActionCreate
		switch it.State {
		case StateRunning:
			if !started || before.Action == events.ActionDie {
				add(events.ActionStart)
			}
		case StateExited:
			if !started {
				add(events.ActionStart)
			}
			if before.Action != events.ActionDie {
				add(events.ActionDie)
			}
		}
	}
	for id, before := range seen {
		if there[id] {
			continue
		}
		before.At = at
		if before.Action == events.ActionStart {
			before.Action = events.ActionDie
			all = append(all, before)
		}
		before.Action = events.ActionDestroy
		all = append(all, before)
	}
	return all
}
