package dockershim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// subscriberBuffer is how many events a client may be behind before its stream
// is ended, whereupon it starts anew and lists.
const subscriberBuffer = 4096

// happening is an event of one of our containers.
type happening struct {
	id        string
	sandboxID string // its own id for a sandbox
	identity  identity
	action    events.Action
	at        int64 // ns
}

func (h happening) isSandbox() bool { return h.id == h.sandboxID }

// watched are the actions that change what CRI shows of a container.
var watched = []events.Action{
	events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionDestroy,
	events.ActionPause, events.ActionUnPause, events.ActionUpdate, events.ActionRename, events.ActionOOM,
}

// watch keeps the one subscription to Docker's events, until ctx ends. While it is
// broken nothing is cached, and clients find what happens by their lists; after it
// is back they are told what happened meanwhile.
func (s *Server) watch(ctx context.Context) error {
	const least, most = 50 * time.Millisecond, 2 * time.Second
	wait, broken := least, false
	seen := map[string]happening{} // by id, the last state-changing event of each container
	for ctx.Err() == nil {
		begun := time.Now()
		err := s.follow(ctx, seen, func() {
			if broken {
				klog.InfoS("Docker's event stream is back")
			}
			broken = false
		})
		s.view.setLive(false)
		if ctx.Err() != nil {
			break
		}
		if !broken {
			klog.InfoS("Docker's event stream broke, changes are noticed by listing until it is back", "err", err)
		}
		broken = true
		if time.Since(begun) > most {
			wait = least
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, most)
	}
	return nil
}

// follow reads one event stream to its end.
func (s *Server) follow(ctx context.Context, seen map[string]happening, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("label", s.view.label))
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
	resp, err := s.docker.get(ctx, "/events", url.Values{"filters": {filter}, "since": {since}}.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s.view.setLive(true)
	if err := s.resync(ctx, seen); err != nil {
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
		s.view.belongs(h.id, h.identity.UID)
		s.view.happened(h.id, h.action)
		s.react(h)
		s.subscribers.tell(h)
	}
}

// happened reads what a message of Docker's tells; false where it is about a
// container that is not ours. Docker puts the labels among its own attributes, of
// which "name" is one that no label replaces.
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

// note keeps the last state of each container, to find out what was missed.
func note(seen map[string]happening, h happening) {
	switch h.action {
	case events.ActionCreate, events.ActionStart, events.ActionDie:
		seen[h.id] = h
	case events.ActionDestroy:
		delete(seen, h.id)
	}
}

// resync tells of what happened while nobody listened, by a list.
func (s *Server) resync(ctx context.Context, seen map[string]happening) error {
	first := len(seen) == 0
	items, err := s.view.containers(ctx, "")
	if err != nil {
		return err
	}
	for _, h := range missed(seen, items, time.Now().UnixNano()) {
		note(seen, h)
		if first {
			continue // there was nothing to compare with: start-up has seen to them
		}
		s.react(h)
		s.subscribers.tell(h)
	}
	return nil
}

// missed says which events lead from what was seen to what is listed.
func missed(seen map[string]happening, items []item, at int64) []happening {
	var all []happening
	there := make(map[string]bool, len(items))
	for _, it := range items {
		there[it.id] = true
		h := happening{id: it.id, sandboxID: it.sandboxID, identity: it.identity, at: at}
		if it.sandbox {
			h.sandboxID = it.id
		}
		tell := func(a events.Action) {
			h.action = a
			all = append(all, h)
		}
		before, known := seen[it.id]
		if !known {
			tell(events.ActionCreate)
		}
		started := known && before.action != events.ActionCreate
		switch it.state {
		case stateRunning:
			if !started || before.action == events.ActionDie {
				tell(events.ActionStart)
			}
		case stateExited:
			if !started {
				tell(events.ActionStart)
			}
			if before.action != events.ActionDie {
				tell(events.ActionDie)
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

// subscribers are the clients that follow events.
type subscribers struct {
	mu  sync.Mutex
	all map[chan happening]bool
}

func (s *subscribers) add() chan happening {
	c := make(chan happening, subscriberBuffer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[chan happening]bool{}
	}
	s.all[c] = true
	return c
}

// remove ends a subscription; doing it twice is fine.
func (s *subscribers) remove(c chan happening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[c] {
		delete(s.all, c)
		close(c)
	}
}

func (s *subscribers) tell(h happening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		select {
		case c <- h:
		default: // too far behind
			delete(s.all, c)
			close(c)
		}
	}
}

// eventTypes are CRI's for Docker's actions; the others are not told of.
var eventTypes = map[events.Action]cri.ContainerEventType{
	events.ActionCreate:  cri.ContainerEventType_CONTAINER_CREATED_EVENT,
	events.ActionStart:   cri.ContainerEventType_CONTAINER_STARTED_EVENT,
	events.ActionDie:     cri.ContainerEventType_CONTAINER_STOPPED_EVENT,
	events.ActionDestroy: cri.ContainerEventType_CONTAINER_DELETED_EVENT,
}

// eventPatience is how long an event waits for Docker to show its pod. Docker shows no
// container while it starts it, which takes seconds on a busy machine.
const eventPatience = time.Minute

// GetContainerEvents streams what happens to sandboxes and containers, each with
// its pod's sandbox. A client that does not keep up gets ResourceExhausted.
func (s *Server) GetContainerEvents(_ *cri.GetEventsRequest, stream cri.RuntimeService_GetContainerEventsServer) error {
	c := s.subscribers.add()
	defer s.subscribers.remove(c)
	// The client learns that it is subscribed before anything happens.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-s.stopping:
			return grpccode.Refused(codes.Unavailable, "the dockershim is stopping")
		case h, ok := <-c:
			if !ok {
				return grpccode.Refused(codes.ResourceExhausted, "events are read too slowly; list, and follow anew")
			}
			kind, ok := eventTypes[h.action]
			if h.action == events.ActionOOM && s.hasEnded(stream.Context(), h.id) {
				// Why it ended is known only now: its end is told once more.
				kind, ok = cri.ContainerEventType_CONTAINER_STOPPED_EVENT, true
			}
			if !ok {
				continue
			}
			ctx, cancel := context.WithTimeout(stream.Context(), eventPatience)
			e, err := s.event(ctx, h, kind)
			cancel()
			if err == nil {
				err = stream.Send(e)
			}
			if err != nil {
				return err
			}
		}
	}
}

// hasEnded tells whether a container has run and runs no more.
func (s *Server) hasEnded(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, eventPatience)
	defer cancel()
	r, err := s.view.inspect(ctx, id)
	return err == nil && r.State != nil && listedState(string(r.State.Status)) == stateExited
}

// event is what a client is told of a happening: with it the pod as it is by now.
// What has gone already is left out, but for whose pod it was. Other pods' events wait, so
// that it is an error when ctx ends before Docker answers: the client lists, and follows
// anew.
func (s *Server) event(ctx context.Context, h happening, kind cri.ContainerEventType) (*cri.ContainerEventResponse, error) {
	e := &cri.ContainerEventResponse{
		ContainerId: h.id, ContainerEventType: kind, CreatedAt: h.at,
		PodSandboxStatus: &cri.PodSandboxStatus{Id: h.sandboxID, Metadata: h.identity.sandboxMetadata(), State: cri.PodSandboxState_SANDBOX_NOTREADY},
	}
	if r, err := s.inspect(ctx, "pod_sandbox_id", h.sandboxID, typeSandbox); err == nil {
		e.PodSandboxStatus = s.sandboxStatus(r)
	}
	items, err := s.view.containers(ctx, h.identity.UID)
	if err != nil {
		items = nil
	}
	for i := range items {
		if items[i].sandbox || items[i].sandboxID != h.sandboxID {
			continue
		}
		if r, err := s.inspect(ctx, "container_id", items[i].id, typeContainer); err == nil {
			e.ContainersStatuses = append(e.ContainersStatuses, s.containerStatus(ctx, r))
		}
	}
	if ctx.Err() != nil {
		return nil, grpccode.Refused(codes.Unavailable, "docker does not answer about container %s or its pod", h.id)
	}
	return e, nil
}
