package dockershim

import (
	"context"
	"fmt"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// sandboxGrace is how long a sandbox may take to end, in seconds, the same as in the kubelet's
// old dockershim. The pause program ends at once.
const sandboxGrace = 10

// StopPodSandbox kills the containers of a sandbox, detaches it from its network and stops it.
// It succeeds when the sandbox is stopped or gone.
func (s *Server) StopPodSandbox(ctx context.Context, req *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	id, err := s.sandboxID(ctx, req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	if id == "" {
		// Docker has forgotten it; its network may still be there.
		return &cri.StopPodSandboxResponse{}, s.network.TearDown(ctx, req.PodSandboxId, "")
	}
	if err := s.stopSandbox(ctx, id); err != nil {
		return nil, fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	return &cri.StopPodSandboxResponse{}, nil
}

func (s *Server) stopSandbox(ctx context.Context, id string) error {
	if err := s.eachContainer(ctx, id, docker.StateRunning, func(it docker.Item) error { return s.containers.Stop(ctx, it.ID, 0) }); err != nil {
		return err
	}
	if err := s.detach(ctx, id); err != nil {
		return err
	}
	return s.containers.Stop(ctx, id, sandboxGrace)
}
