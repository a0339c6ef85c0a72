package dockershim

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/logs"
)

// ReopenContainerLog continues a container's log in a new file, after the client has renamed
// the old one.
func (s *Server) ReopenContainerLog(ctx context.Context, req *cri.ReopenContainerLogRequest) (*cri.ReopenContainerLogResponse, error) {
	id, err := s.running(ctx, "container_id", req.ContainerId, docker.TypeContainer)
	if err != nil {
		return nil, err
	}
	err = s.logs.Reopen(id)
	if errors.Is(err, logs.ErrNotFollowed) {
		return nil, grpccode.Refused(codes.FailedPrecondition, "container %s has no log to reopen", id)
	}
	if err != nil {
		return nil, fmt.Errorf("reopen the log of container %s: %w", id, err)
	}
	return &cri.ReopenContainerLogResponse{}, nil
}
