package dockershim

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// sandboxGrace is how long a sandbox may take to end, in seconds, as in the
// dockershim of old; the pause program ends at once.
const sandboxGrace = 10

// StopPodSandbox kills what still runs in a sandbox, detaches it from its network
// and stops it. It succeeds for one that is stopped or gone.
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
	if err := s.eachContainer(ctx, id, docker.StateRunning, func(it docker.Item) error { return s.view.Stop(ctx, it.ID, 0) }); err != nil {
		return err
	}
	if err := s.detach(ctx, id); err != nil {
		return err
	}
	return s.view.Stop(ctx, id, sandboxGrace)
}

// sandboxID finds a sandbox by its id or the beginning of it; "" when there is none.
func (s *Server) sandboxID(ctx context.Context, id string) (string, error) {
	if id == "" {
		return "", grpccode.Invalid("pod_sandbox_id", "is empty")
	}
	if _, ok := s.made.sandbox(id); ok {
		return id, nil
	}
	r, err := s.view.Inspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err), err == nil && r.Config.Labels[docker.LabelType] != docker.TypeSandbox:
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look for sandbox %s: %w", id, err)
	}
	return r.ID, nil
}

// eachContainer calls do, at once, for all containers of a sandbox in that state;
// stateUnknown means any.
func (s *Server) eachContainer(ctx context.Context, sandboxID string, in docker.State, do func(docker.Item) error) error {
	items, err := s.view.List(ctx, "")
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, it := range items {
		if it.IsSandbox || it.SandboxID != sandboxID || in != docker.StateUnknown && it.State != in {
			continue
		}
		wg.Go(func() {
			if err := recovery.Call(func() error { return do(it) }); err != nil {
				once.Do(func() { first = err })
			}
		})
	}
	wg.Wait()
	return first
}
