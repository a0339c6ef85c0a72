package dockershim

import (
	"context"
	"fmt"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// RemovePodSandbox removes a sandbox with all its containers, running or not. It succeeds when
// the sandbox is gone.
func (s *Server) RemovePodSandbox(ctx context.Context, req *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	id, err := s.sandboxID(ctx, req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	if id == "" {
		if err := s.network.TearDown(ctx, req.PodSandboxId, ""); err != nil {
			return nil, fmt.Errorf("remove sandbox %s: detach from the network: %w", req.PodSandboxId, err)
		}
		return &cri.RemovePodSandboxResponse{}, s.checkpoints.Remove(req.PodSandboxId)
	}
	ctx, cancel := s.action(ctx)
	defer cancel()
	if err := s.eachContainer(ctx, id, docker.StateUnknown, func(it docker.Item) error { return s.removeContainer(ctx, it.ID, s.containers.Remove) }); err != nil {
		return nil, fmt.Errorf("remove the containers of sandbox %s: %w", id, err)
	}
	if err := s.removeSandbox(ctx, id); err != nil {
		return nil, fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	return &cri.RemovePodSandboxResponse{}, nil
}
