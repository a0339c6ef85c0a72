package dockershim

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

// happening is an event of one of our containers.
type happening struct {
	id        string
	sandboxID string // of the container's sandbox; a sandbox names itself
	identity  identity
	action    events.Action
	at        int64 // ns since the epoch
}

func (h happening) isSandbox() bool { return h.id == h.sandboxID }

// watched are the actions that change what CRI shows of a container.
var watched = []events.Action{
	events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionDestroy,
	events.ActionPause, events.ActionUnPause, events.ActionUpdate, events.ActionRename, events.ActionOOM,
}

// reconnect is how long to wait before subscribing to Docker's events again.
var reconnect = wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Steps: 10, Cap: 2 * time.Second}

// watch keeps the one subscription to Docker's events until ctx ends, and calls tell with
// each event of our containers, one after the other. While the subscription is broken
// nothing is cached; once it is back, tell hears of what happened meanwhile.
func (v *view) watch(ctx context.Context, tell func(happening)) error {
	backoff, broken := reconnect, false
	seen := map[string]happening{} // by ID, the last event of each container that changed its state
	for ctx.Err() == nil {
		begun := time.Now()
		err := v.follow(ctx, seen, tell, func() {
			if broken {
				klog.InfoS("Docker's event stream is back")
			}
			broken = false
		})
		v.setLive(false)
		if ctx.Err() != nil {
			break
		}
		if !broken {
			klog.InfoS("Docker's event stream broke, changes are noticed by listing until it is back", "err", err)
		}
		broken = true
		if time.Since(begun) > reconnect.Cap {
			backoff = reconnect
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Step()):
		}
	}
	return nil
}

// follow reads one event stream to its end.
func (v *view) follow(ctx context.Context, seen map[string]happening, tell func(happening), ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("label", v.label))
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
	resp, err := v.docker.get(ctx, "/events", url.Values{"filters": {filter}, "since": {since}}.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	v.setLive(true)
	if err := v.resync(ctx, seen, tell); err != nil {
		return err
	}
	ready()
	for dec := json.NewDecoder(resp.Body); ; {
		var m events.Message
		if err := dec.Decode(&m); err != nil {
			return err
		}
		h, ours := happened(&m)
		if !ours {
			continue
		}
		note(seen, h)
		v.belongs(h.id, h.identity.UID)
		v.happened(h.id, h.action)
		tell(h)
	}
}

// happened reads a message of Docker's; it returns false for a container that is not ours.
// Docker puts the labels among its own attributes; no label replaces the attribute "name".
func happened(m *events.Message) (happening, bool) {
	labels := trusted(m.Actor.Attributes)
	id, ok := identityOf(m.Actor.Attributes["name"], labels)
	if !ok || labels[labelStateDir] == "" {
		return happening{}, false
	}
	h := happening{id: m.Actor.ID, sandboxID: labels[labelSandboxID], identity: id, action: m.Action, at: m.TimeNano}
	if labels[labelType] == typeSandbox {
		h.sandboxID = h.id
	}
	return h, true
}

// note keeps the last state of each container, from which missed starts.
func note(seen map[string]happening, h happening) {
	switch h.action {
	case events.ActionCreate, events.ActionStart, events.ActionDie:
		seen[h.id] = h
	case events.ActionDestroy:
		delete(seen, h.id)
	}
}

// resync lists, and tells what happened while nobody listened.
func (v *view) resync(ctx context.Context, seen map[string]happening, tell func(happening)) error {
	first := len(seen) == 0
	items, err := v.containers(ctx, "")
	if err != nil {
		return err
	}
	for _, h := range missed(seen, items, time.Now().UnixNano()) {
		note(seen, h)
		if first {
			continue // there was nothing to compare with: start-up has seen to them
		}
		tell(h)
	}
	return nil
}

// missed returns the events that lead from what was seen to what is listed.
func missed(seen map[string]happening, items []item, at int64) []happening {
	var all []happening
	there := make(map[string]bool, len(items))
	for _, it := range items {
		there[it.id] = true
		h := happening{id: it.id, sandboxID: it.sandboxID, identity: it.identity, at: at}
		if it.sandbox {
			h.sandboxID = it.id
		}
		add := func(a events.Action) {
			h.action = a
			all = append(all, h)
		}
		before, known := seen[it.id]
		if !known {
			add(events.ActionCreate)
		}
		started := known && before.action != events.ActionCreate
		switch it.state {
		case stateRunning:
			if !started || before.action == events.ActionDie {
				add(events.ActionStart)
			}
		case stateExited:
			if !started {
				add(events.ActionStart)
			}
			if before.action != events.ActionDie {
				add(events.ActionDie)
			}
		}
	}
	for id, before := range seen {
		if there[id] {
			continue
		}
		before.at = at
		if before.action == events.ActionStart {
			before.action = events.ActionDie
			all = append(all, before)
		}
		before.action = events.ActionDestroy
		all = append(all, before)
	}
	return all
}
