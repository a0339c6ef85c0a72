package dockershim

import (
	"context"
	"errors"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/logs"
)

// ContainerStatus shows one container. When it has ended, its log is complete once
// ContainerStatus returns.
func (s *Server) ContainerStatus(ctx context.Context, req *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	r, err := s.inspect(ctx, "container_id", req.ContainerId, docker.TypeContainer)
	if err != nil {
		return nil, err
	}
	st := s.containerStatus(ctx, r)
	if st.State == cri.ContainerState_CONTAINER_EXITED {
		s.finishLog(ctx, r.ID)
	}
	resp := &cri.ContainerStatusResponse{Status: st}
	if req.Verbose {
		resp.Info = verbose("info", map[string]any{
			"sandboxID": r.Config.Labels[docker.LabelSandboxID], "pid": r.State.Pid, "hostConfig": r.HostConfig, "driver": r.Driver,
		})
	}
	return resp, nil
}

// finishLog completes the log of a container that has ended.
func (s *Server) finishLog(ctx context.Context, id string) {
	if err := s.logs.Finish(ctx, id); err != nil && !errors.Is(err, logs.ErrNotFollowed) && ctx.Err() == nil {
		klog.ErrorS(err, "Could not complete a container's log yet", "containerID", id)
	}
}

func (s *Server) containerStatus(ctx context.Context, r *container.InspectResponse) *cri.ContainerStatus {
	st := convert.ContainerStatus(r, s.imageRef(ctx))
	if s.containers.OutOfMemory(r.ID) {
		convert.OutOfMemory(st)
	}
	return st
}

// imageRef returns a function that returns the reference of an image by its ID.
func (s *Server) imageRef(ctx context.Context) func(id string) string {
	return func(id string) string { return s.images.Ref(ctx, id) }
}
