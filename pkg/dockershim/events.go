package dockershim

import (
	"context"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// subscriberBuffer is how many events a client may be behind before its stream is ended, so
// that it has to list and follow anew.
const subscriberBuffer = 4096

// subscribers are the clients that follow events.
type subscribers struct {
	mu  sync.Mutex
	all map[chan docker.Event]bool
}

// add begins a subscription. The channel is closed when it ends.
func (s *subscribers) add() chan docker.Event {
	c := make(chan docker.Event, subscriberBuffer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[chan docker.Event]bool{}
	}
	s.all[c] = true
	return c
}

// remove ends a subscription; doing it twice is fine.
func (s *subscribers) remove(c chan docker.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[c] {
		delete(s.all, c)
		close(c)
	}
}

// tell passes an event on, and ends the subscriptions that are too far behind.
func (s *subscribers) tell(e docker.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		select {
		case c <- e:
		default:
			delete(s.all, c)
			close(c)
		}
	}
}

// eventTypes are CRI's for Docker's actions. Clients do not hear of other actions.
var eventTypes = map[events.Action]cri.ContainerEventType{
	events.ActionCreate:  cri.ContainerEventType_CONTAINER_CREATED_EVENT,
	events.ActionStart:   cri.ContainerEventType_CONTAINER_STARTED_EVENT,
	events.ActionDie:     cri.ContainerEventType_CONTAINER_STOPPED_EVENT,
	events.ActionDestroy: cri.ContainerEventType_CONTAINER_DELETED_EVENT,
}

// eventPatience is how long an event waits for Docker to show its pod. Docker shows no
// container while it starts it, which takes seconds on a busy machine.
const eventPatience = time.Minute

// GetContainerEvents streams what happens to sandboxes and containers, each event with the
// status of its pod at the time, unless the client asked for crimeta.WithoutStatuses. A
// client that does not keep up gets ResourceExhausted; one whose event has waited too long
// for Docker gets Unavailable. Both list, and follow anew.
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
		case e, ok := <-c:
			if !ok {
				return grpccode.Refused(codes.ResourceExhausted, "events are read too slowly; list, and follow anew")
			}
			if err := s.send(stream, e); err != nil {
				return err
			}
		}
	}
}

// send sends a client what it wants to know of an event.
func (s *Server) send(stream cri.RuntimeService_GetContainerEventsServer, e docker.Event) error {
	ctx, cancel := context.WithTimeout(stream.Context(), eventPatience)
	defer cancel()
	kind, ok := eventTypes[e.Action]
	if e.Action == events.ActionOOM && s.hasEnded(ctx, e.ID) {
		// The reason of the container's end is known only now, so that the end is told again.
		kind, ok = cri.ContainerEventType_CONTAINER_STOPPED_EVENT, true
	}
	if !ok {
		return nil
	}
	resp := &cri.ContainerEventResponse{
		ContainerId: e.ID, ContainerEventType: kind, CreatedAt: e.At,
		PodSandboxStatus: &cri.PodSandboxStatus{
			Id: e.SandboxID, Metadata: convert.SandboxMetadata(e.Identity), State: cri.PodSandboxState_SANDBOX_NOTREADY,
		},
	}
	if !crimeta.IsWithoutStatuses(ctx) {
		if err := s.addStatuses(ctx, resp, e); err != nil {
			return err
		}
	}
	return stream.Send(resp)
}

// hasEnded reports whether a container has run and does not run any more.
func (s *Server) hasEnded(ctx context.Context, id string) bool {
	r, err := s.containers.Inspect(ctx, id)
	return err == nil && docker.StateOf(r.State) == docker.StateExited
}

// addStatuses adds the pod as it is by now. What does not exist any more is left out, except
// which pod it was. When ctx ends before Docker answers, that is an error, because the
// events of other pods are waiting.
func (s *Server) addStatuses(ctx context.Context, resp *cri.ContainerEventResponse, e docker.Event) error {
	if r, err := s.inspect(ctx, "pod_sandbox_id", e.SandboxID, docker.TypeSandbox); err == nil {
		if resp.PodSandboxStatus, err = s.sandboxStatus(r); err != nil {
			return err
		}
	}
	items, err := s.containers.List(ctx, e.Identity.UID)
	if err != nil {
		items = nil
	}
	for _, it := range items {
		if it.IsSandbox || it.SandboxID != e.SandboxID {
			continue
		}
		if r, err := s.inspect(ctx, "container_id", it.ID, docker.TypeContainer); err == nil {
			resp.ContainersStatuses = append(resp.ContainersStatuses, s.containerStatus(ctx, r))
		}
	}
	if ctx.Err() != nil {
		return grpccode.Refused(codes.Unavailable, "docker does not answer about container %s or its pod", e.ID)
	}
	return nil
}
