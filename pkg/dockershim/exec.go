package dockershim

import (
	"context"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// ExecSync runs a command in a container and returns its output.
func (s *Server) ExecSync(ctx context.Context, req *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	if err := s.checkExec(ctx, req.ContainerId, req.Cmd); err != nil {
		return nil, err
	}
	return s.streams.ExecSync(ctx, req)
}

// Exec prepares a URL at which a command is run in a container.
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

// checkExec fails unless the command has a program, and the container is ours and runs.
func (s *Server) checkExec(ctx context.Context, id string, command []string) error {
	if err := convert.CheckCommand("cmd", command); err != nil {
		return err
	}
	return s.checkRunning(ctx, "container_id", id, docker.TypeContainer)
}
