package dockershim

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// inspect shows a sandbox or container, or fails with NotFound.
func (s *Server) inspect(ctx context.Context, field, id, kind string) (*container.InspectResponse, error) {
	if id == "" {
		return nil, grpccode.Invalid(field, "is empty")
	}
	what := "container"
	if kind == docker.TypeSandbox {
		what = "sandbox"
	}
	r, err := s.view.Inspect(ctx, id)
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
