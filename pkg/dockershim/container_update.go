package dockershim

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// UpdateContainerResources changes the limits of a container that has not ended. Values of 0
// stay as they are, as cri-api has it: only set values are updated.
func (s *Server) UpdateContainerResources(ctx context.Context, req *cri.UpdateContainerResourcesRequest) (*cri.UpdateContainerResourcesResponse, error) {
	if req.Linux == nil {
		return nil, grpccode.Invalid("linux", "is missing")
	}
	if req.Windows != nil {
		return nil, grpccode.Invalid("windows", "this is a Linux runtime")
	}
	if err := convert.CheckResources("linux", req.Linux); err != nil {
		return nil, err
	}
	r, err := s.inspect(ctx, "container_id", req.ContainerId, docker.TypeContainer)
	if err != nil {
		return nil, err
	}
	if docker.StateOf(r.State) == docker.StateExited {
		return nil, grpccode.Refused(codes.FailedPrecondition, "container %s has ended", r.ID)
	}
	wanted, err := s.platform.Resources("linux", req.Linux)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.action(ctx)
	defer cancel()
	err = s.containers.Update(ctx, r.ID, updated(r.HostConfig.Resources, wanted))
	if errdefs.IsNotFound(err) {
		return nil, grpccode.NotFound("container", r.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("update the resources of container %s: %w", r.ID, err)
	}
	return &cri.UpdateContainerResourcesResponse{}, nil
}

// updated returns the values for Docker. Docker compares swap with memory, so that memory is
// always named when swap is.
func updated(now, wanted container.Resources) container.Resources {
	out := container.Resources{
		CPUShares: wanted.CPUShares, CPUPeriod: wanted.CPUPeriod, CPUQuota: wanted.CPUQuota,
		CpusetCpus: wanted.CpusetCpus, CpusetMems: wanted.CpusetMems,
		Memory: wanted.Memory, MemorySwap: wanted.MemorySwap, PidsLimit: wanted.PidsLimit,
	}
	if out.MemorySwap != 0 && out.Memory == 0 {
		out.Memory = now.Memory
	}
	return out
}
