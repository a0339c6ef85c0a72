package dockershim

import (
	"context"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// The server of streams gets full IDs: it tells by them which processes are the container's.

// ExecSync runs a command in a container and returns its output.
func (s *Server) ExecSync(ctx context.Context, req *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	id, err := s.execIn(ctx, req.ContainerId, req.Cmd)
	if err != nil {
		return nil, err
	}
	return s.streams.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: req.Cmd, Timeout: req.Timeout})
}

// Exec prepares a URL at which a command is run in a container.
func (s *Server) Exec(ctx context.Context, req *cri.ExecRequest) (*cri.ExecResponse, error) {
	id, err := s.execIn(ctx, req.ContainerId, req.Cmd)
	if err != nil {
		return nil, err
	}
	return s.streams.Exec(ctx, &cri.ExecRequest{ContainerId: id, Cmd: req.Cmd, Tty: req.Tty, Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr})
}

// Attach prepares a URL that is connected to a container's main process.
func (s *Server) Attach(ctx context.Context, req *cri.AttachRequest) (*cri.AttachResponse, error) {
	id, err := s.running(ctx, "container_id", req.ContainerId, docker.TypeContainer)
	if err != nil {
		return nil, err
	}
	return s.streams.Attach(ctx, &cri.AttachRequest{ContainerId: id, Tty: req.Tty, Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr})
}

// execIn returns the full ID of the container. It fails unless the command has a program, and
// the container is ours and runs.
func (s *Server) execIn(ctx context.Context, id string, command []string) (string, error) {
	if err := convert.CheckCommand("cmd", command); err != nil {
		return "", err
	}
	return s.running(ctx, "container_id", id, docker.TypeContainer)
}
