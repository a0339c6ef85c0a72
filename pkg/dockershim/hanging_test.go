package dockershim

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagevolume"
	"github.com/mini-kubelet/mini-kubelet/test/dockertest"
)

// A pod can mount a file server that answers no more once it is mounted.
func TestAMountThatHangsHoldsOneCallForAContainer(t *testing.T) {
	entered, answer := make(chan struct{}, 2), make(chan struct{})
	s := &Server{platform: convert.Platform{RealPath: func(string) (string, error) {
		entered <- struct{}{}
		<-answer
		return "", grpccode.Refused(codes.Unavailable, "it never answered")
	}}, services: services{volumes: imagevolume.New(t.TempDir(), nil, nil)}}
	s.made.sandboxMade("s", docker.Identity{Pod: "p", Namespace: "n", UID: "u"})
	create := func() error {
		_, err := s.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: "s", SandboxConfig: &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "p", Namespace: "n", Uid: "u"}, LogDirectory: "/logs",
		}, Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "c"}, Image: &cri.ImageSpec{Image: "i"}, LogPath: "c/0.log",
			Mounts: []*cri.Mount{{HostPath: "/nfs", ContainerPath: "/nfs"}},
		}})
		return err
	}
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- create() }()
	<-entered
	go func() { second <- create() }()
	select {
	case err := <-second:
		if grpccode.Of(err) != codes.AlreadyExists {
			t.Errorf("the second call: %v", err)
		}
	case <-entered:
		t.Error("a second call hangs as well")
	}
	close(answer)
	if err := <-first; err == nil {
		t.Error("the first call succeeded")
	}
}

// The agent's start looks at all containers, and Docker may be unable to answer about one.
func TestAContainerThatDockerCannotShowHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	d := &dockertest.Pods{Hangs: "in-u"}
	s := &Server{state: stateOf(t, d)}
	items, err := s.containers.List(t.Context(), "")
	if err != nil || len(items) != 2 {
		t.Fatal(items, err)
	}
	var seen atomic.Int32
	s.lookAt(t.Context(), items, func(docker.Item) bool { return true }, func(it docker.Item, _ *container.InspectResponse) {
		if it.ID != "in-v" || d.GivenUp.Load() {
			t.Errorf("%s is shown, and the other had been given up: %v", it.ID, d.GivenUp.Load())
		}
		seen.Add(1)
	})
	if seen.Load() != 1 {
		t.Errorf("%d containers were seen, want the one that Docker shows", seen.Load())
	}
}

// Events are told one after the other, whosever they are.
func TestAnEventOfAContainerThatDockerCannotShowHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	d := &dockertest.Pods{Hangs: "in-u"}
	s := &Server{state: stateOf(t, d)}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	e := docker.Event{ID: "in-u", Identity: docker.Identity{UID: "u"}}
	if err := s.addStatuses(ctx, &cri.ContainerEventResponse{}, e); grpccode.Of(err) != codes.Unavailable {
		t.Errorf("error %v", err)
	}
}
