package dockershim

import (
	"context"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// subscriberBuffer is how many events a client may be behind before its stream
// is ended, whereupon it starts anew and lists.
const subscriberBuffer = 4096

// subscribers are the clients that follow events.
type subscribers struct {
	mu  sync.Mutex
	all map[chan docker.Event]bool
}

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

func (s *subscribers) tell(h docker.Event) {
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
			kind, ok := eventTypes[h.Action]
			if h.Action == events.ActionOOM && s.hasEnded(stream.Context(), h.ID) {
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
	r, err := s.containers.Inspect(ctx, id)
	return err == nil && docker.StateOf(r.State) == docker.StateExited
}

// event is what a client is told of a happening: with it the pod as it is by now.
// What has gone already is left out, but for whose pod it was. Other pods' events wait, so
// that it is an error when ctx ends before Docker answers: the client lists, and follows
// anew.
func (s *Server) event(ctx context.Context, h docker.Event, kind cri.ContainerEventType) (*cri.ContainerEventResponse, error) {
	e := &cri.ContainerEventResponse{
		ContainerId: h.ID, ContainerEventType: kind, CreatedAt: h.At,
		PodSandboxStatus: &cri.PodSandboxStatus{Id: h.SandboxID, Metadata: convert.SandboxMetadata(h.Identity), State: cri.PodSandboxState_SANDBOX_NOTREADY},
	}
	if r, err := s.inspect(ctx, "pod_sandbox_id", h.SandboxID, docker.TypeSandbox); err == nil {
		e.PodSandboxStatus = s.sandboxStatus(r)
	}
	items, err := s.containers.List(ctx, h.Identity.UID)
	if err != nil {
		items = nil
	}
	for i := range items {
		if items[i].IsSandbox || items[i].SandboxID != h.SandboxID {
			continue
		}
		if r, err := s.inspect(ctx, "container_id", items[i].ID, docker.TypeContainer); err == nil {
			e.ContainersStatuses = append(e.ContainersStatuses, s.containerStatus(ctx, r))
		}
	}
	if ctx.Err() != nil {
		return nil, grpccode.Refused(codes.Unavailable, "docker does not answer about container %s or its pod", h.ID)
	}
	return e, nil
}
