package dockershim

import (
	"context"
	"fmt"
	"math"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// StopContainer sends a container its stop signal, and SIGKILL after the timeout. It succeeds
// when the container is stopped or gone. A second call with a shorter timeout cuts the first
// one short. A timeout of more than 68 years becomes 68 years.
func (s *Server) StopContainer(ctx context.Context, req *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	if req.ContainerId == "" {
		return nil, grpccode.Invalid("container_id", "is empty")
	}
	if req.Timeout < 0 {
		return nil, grpccode.Invalid("timeout", "%d is no number of seconds", req.Timeout)
	}
	r, err := s.inspect(ctx, "container_id", req.ContainerId, docker.TypeContainer)
	if grpccode.Of(err) == codes.NotFound {
		return &cri.StopContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.containers.Stop(ctx, r.ID, int(min(req.Timeout, math.MaxInt32))); err != nil {
		return nil, fmt.Errorf("stop container %s: %w", r.ID, err)
	}
	return &cri.StopContainerResponse{}, nil
}
