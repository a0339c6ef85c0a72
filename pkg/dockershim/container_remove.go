package dockershim

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// RemoveContainer removes a container, also a running one unless the client asked for
// crimeta.UnlessRunning. Its log stays. It succeeds when the container is gone.
func (s *Server) RemoveContainer(ctx context.Context, req *cri.RemoveContainerRequest) (*cri.RemoveContainerResponse, error) {
	r, err := s.inspect(ctx, "container_id", req.ContainerId, docker.TypeContainer)
	if grpccode.Of(err) == codes.NotFound {
		return &cri.RemoveContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.action(ctx)
	defer cancel()
	remove := s.containers.Remove
	if crimeta.IsUnlessRunning(ctx) {
		remove = s.containers.RemoveUnlessRunning
	}
	if err := s.removeContainer(ctx, r.ID, remove); err != nil {
		return nil, fmt.Errorf("remove container %s: %w", r.ID, err)
	}
	return &cri.RemoveContainerResponse{}, nil
}

// removeContainer removes a container from Docker and lets go of what is kept for it.
func (s *Server) removeContainer(ctx context.Context, id string, remove func(context.Context, string) error) error {
	if err := remove(ctx, id); err != nil {
		return err
	}
	s.made.forget(id)
	s.logs.Forget(id)
	s.volumes.Release(ctx)
	return nil
}
