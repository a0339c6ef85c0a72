package dockershim

import (
	"context"
	"errors"
	"testing"

	"github.com/docker/docker/api/types/events"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/test/dockertest"
)

func TestSlowSubscribersAreCutOffAndOthersAreNot(t *testing.T) {
	var s subscribers
	slow, fast := s.add(), s.add()
	for range subscriberBuffer + 1 {
		s.tell(docker.Event{})
		<-fast
	}
	n := 0
	for range slow {
		n++
	}
	if n != subscriberBuffer {
		t.Errorf("the slow one got %d events before it was cut off, want %d", n, subscriberBuffer)
	}
	s.tell(docker.Event{ID: "last"})
	if h := <-fast; h.ID != "last" {
		t.Errorf("got %+v", h)
	}
	s.remove(slow)
	s.remove(fast)
	s.remove(fast)
}

// followed is a client's stream of events. subscribed is closed when the server has taken it up.
type followed struct {
	grpc.ServerStream
	ctx        context.Context
	subscribed chan struct{}
	sent       chan *cri.ContainerEventResponse
}

func (f *followed) Context() context.Context       { return f.ctx }
func (f *followed) SendHeader(_ metadata.MD) error { close(f.subscribed); return nil }
func (f *followed) Send(e *cri.ContainerEventResponse) error {
	f.sent <- e
	return nil
}

func TestAnEventBringsTheStatusesUnlessTheClientNeedsNone(t *testing.T) {
	for name, tc := range map[string]struct {
		ask       func(context.Context) context.Context
		hangs     string
		asksAbout bool
	}{
		"by default":                         {func(ctx context.Context) context.Context { return ctx }, "", true},
		"without":                            {crimeta.WithoutStatuses, "", false},
		"without, while Docker shows no pod": {crimeta.WithoutStatuses, "in-u", false},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dockertest.Pods{Hangs: tc.hangs}
			s := &Server{state: stateOf(t, d)}
			asked, _ := metadata.FromOutgoingContext(tc.ask(t.Context()))
			ctx, cancel := context.WithCancel(metadata.NewIncomingContext(t.Context(), asked))
			f := &followed{ctx: ctx, subscribed: make(chan struct{}), sent: make(chan *cri.ContainerEventResponse)}
			ended := make(chan error, 1)
			go func() { ended <- s.GetContainerEvents(&cri.GetEventsRequest{}, f) }()
			<-f.subscribed
			s.subscribers.tell(docker.Event{ID: "in-u", Identity: docker.Identity{Pod: "p", Namespace: "n", UID: "u"}, Action: events.ActionDie, At: 7})
			e := <-f.sent
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the stream ended with %v", err)
			}
			if e.ContainerId != "in-u" || e.ContainerEventType != cri.ContainerEventType_CONTAINER_STOPPED_EVENT || e.CreatedAt != 7 ||
				e.PodSandboxStatus.GetMetadata().GetUid() != "u" || e.PodSandboxStatus.GetMetadata().GetName() != "p" {
				t.Errorf("event %v", e)
			}
			if asks := d.Lists.Load() > 0 && d.Inspections.Load() > 0; asks != tc.asksAbout {
				t.Errorf("%d lists and %d inspections", d.Lists.Load(), d.Inspections.Load())
			}
			if got := len(e.ContainersStatuses) == 1 && e.ContainersStatuses[0].Id == "in-u"; got != tc.asksAbout {
				t.Errorf("statuses %v", e.ContainersStatuses)
			}
		})
	}
}

// stateOf is the state of a server that is connected to a fake Docker.
func stateOf(t *testing.T, d *dockertest.Pods) state {
	t.Helper()
	e, err := docker.Connect(t.Context(), dockertest.Serve(t, d), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return state{containers: docker.NewContainers(e, dockertest.StateDir), images: docker.NewImages(e)}
}
