package dockershim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// StartContainer starts a created container and begins to copy its log. It does nothing for a
// container that runs.
func (s *Server) StartContainer(ctx context.Context, req *cri.StartContainerRequest) (*cri.StartContainerResponse, error) {
	id := req.ContainerId
	log, known := s.made.logPath(id)
	if !known {
		r, err := s.inspect(ctx, "container_id", id, docker.TypeContainer)
		if err != nil {
			return nil, err
		}
		if docker.StateOf(r.State) == docker.StateExited {
			return nil, grpccode.Refused(codes.FailedPrecondition, "container %s has run already and cannot be started again", id)
		}
		id, log = r.ID, r.Config.Labels[docker.LabelLogPath]
	}
	action, cancel := s.action(ctx)
	defer cancel()
	err := s.containers.Start(action, id)
	s.made.forget(id)
	if err != nil {
		if errdefs.IsNotFound(err) {
			return nil, grpccode.NotFound("container", id)
		}
		return nil, fmt.Errorf("start container %s: %w", id, convert.ExplainPropagation(err))
	}
	if err := s.followLog(action, id, log); err != nil {
		// The container runs, and Docker keeps what it writes; tidy tries again.
		klog.ErrorS(err, "Could not follow a container's log", "containerID", id, "path", log)
	}
	return &cri.StartContainerResponse{}, nil
}

// followLog begins to copy a container's log to where the client wants it.
func (s *Server) followLog(ctx context.Context, id, path string) error {
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("create the log's directory: %w", err)
	}
	return s.logs.Follow(ctx, id, s.docker.LogFile(id), path)
}
