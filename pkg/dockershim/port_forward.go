package dockershim

import (
	"context"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// PortForward prepares a URL that forwards to ports of a sandbox.
func (s *Server) PortForward(ctx context.Context, req *cri.PortForwardRequest) (*cri.PortForwardResponse, error) {
	id, err := s.running(ctx, "pod_sandbox_id", req.PodSandboxId, docker.TypeSandbox)
	if err != nil {
		return nil, err
	}
	return s.streams.PortForward(ctx, &cri.PortForwardRequest{PodSandboxId: id, Port: req.Port})
}
