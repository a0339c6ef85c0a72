package dockershim

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/logs"
)

// ExecSync runs a command in a container and returns its output.
func (s *Server) ExecSync(ctx context.Context, req *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	if err := s.checkExec(ctx, req.ContainerId, req.Cmd); err != nil {
		return nil, err
	}
	return s.streams.ExecSync(ctx, req)
}

// Exec prepares a URL at which a command runs in a container.
func (s *Server) Exec(ctx context.Context, req *cri.ExecRequest) (*cri.ExecResponse, error) {
	if err := s.checkExec(ctx, req.ContainerId, req.Cmd); err != nil {
		return nil, err
	}
	return s.streams.Exec(ctx, req)
}

// Attach prepares a URL that is connected to a container's main process.
func (s *Server) Attach(ctx context.Context, req *cri.AttachRequest) (*cri.AttachResponse, error) {
	if err := s.checkRunning(ctx, "container_id", req.ContainerId, docker.TypeContainer); err != nil {
		return nil, err
	}
	return s.streams.Attach(ctx, req)
}

// PortForward prepares a URL that forwards to ports of a sandbox.
func (s *Server) PortForward(ctx context.Context, req *cri.PortForwardRequest) (*cri.PortForwardResponse, error) {
	if err := s.checkRunning(ctx, "pod_sandbox_id", req.PodSandboxId, docker.TypeSandbox); err != nil {
		return nil, err
	}
	return s.streams.PortForward(ctx, req)
}

// checkExec fails unless the command could be one, and the container is ours and runs.
func (s *Server) checkExec(ctx context.Context, id string, command []string) error {
	if err := convert.CheckCommand("cmd", command); err != nil {
		return err
	}
	return s.checkRunning(ctx, "container_id", id, docker.TypeContainer)
}

// checkRunning fails unless that is one of ours and runs.
func (s *Server) checkRunning(ctx context.Context, field, id, kind string) error {
	r, err := s.inspect(ctx, field, id, kind)
	if err != nil {
		return err
	}
	if !r.State.Running {
		return grpccode.Refused(codes.FailedPrecondition, "%s: %s does not run, it is %s", field, id, r.State.Status)
	}
	return nil
}

// ReopenContainerLog has a container write to a new log file, after its client
// has renamed the old one.
func (s *Server) ReopenContainerLog(ctx context.Context, req *cri.ReopenContainerLogRequest) (*cri.ReopenContainerLogResponse, error) {
	if err := s.checkRunning(ctx, "container_id", req.ContainerId, docker.TypeContainer); err != nil {
		return nil, err
	}
	err := s.logs.Reopen(req.ContainerId)
	if errors.Is(err, logs.ErrNotFollowed) {
		return nil, grpccode.Refused(codes.FailedPrecondition, "container %s has no log to reopen", req.ContainerId)
	}
	if err != nil {
		return nil, fmt.Errorf("reopen the log of container %s: %w", req.ContainerId, err)
	}
	return &cri.ReopenContainerLogResponse{}, nil
}
