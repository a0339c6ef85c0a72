package dockershim

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc/codes"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// inspect returns a sandbox or a container of ours, as kind says, with State and HostConfig.
// It fails with NotFound when there is none with this ID or prefix. field names the ID in the
// request.
func (s *Server) inspect(ctx context.Context, field, id, kind string) (*container.InspectResponse, error) {
	if id == "" {
		return nil, grpccode.Invalid(field, "is empty")
	}
	what := "container"
	if kind == docker.TypeSandbox {
		what = "sandbox"
	}
	r, err := s.containers.Inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil, grpccode.NotFound(what, id)
	}
	if err != nil {
		return nil, err
	}
	if (r.Config.Labels[docker.LabelType] == docker.TypeSandbox) != (kind == docker.TypeSandbox) || r.State == nil || r.HostConfig == nil {
		return nil, grpccode.NotFound(what, id)
	}
	return r, nil
}

// running returns the full ID of a sandbox or container, found by its ID or a prefix of that. It
// fails unless it is ours and runs.
func (s *Server) running(ctx context.Context, field, id, kind string) (string, error) {
	r, err := s.inspect(ctx, field, id, kind)
	if err != nil {
		return "", err
	}
	if !r.State.Running {
		return "", grpccode.Refused(codes.FailedPrecondition, "%s: %s does not run, it is %s", field, id, r.State.Status)
	}
	return r.ID, nil
}

// sandboxID returns the full ID of a sandbox, found by its ID or a prefix of that; "" when
// there is none.
func (s *Server) sandboxID(ctx context.Context, id string) (string, error) {
	if id == "" {
		return "", grpccode.Invalid("pod_sandbox_id", "is empty")
	}
	if _, ok := s.made.sandbox(id); ok {
		return id, nil
	}
	r, err := s.containers.Inspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err), err == nil && r.Config.Labels[docker.LabelType] != docker.TypeSandbox:
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look for sandbox %s: %w", id, err)
	}
	return r.ID, nil
}

// eachContainer calls do concurrently for all containers of a sandbox in the given state,
// where docker.StateUnknown means any. It returns the first error.
func (s *Server) eachContainer(ctx context.Context, sandboxID string, in docker.State, do func(docker.Item) error) error {
	items, err := s.containers.List(ctx, "")
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
