package dockershim

import (
	"context"

	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// ContainerStats shows what one container uses. For a container that does not run, that is
// only the writable layer.
func (s *Server) ContainerStats(ctx context.Context, req *cri.ContainerStatsRequest) (*cri.ContainerStatsResponse, error) {
	r, err := s.inspect(ctx, "container_id", req.ContainerId, docker.TypeContainer)
	if err != nil {
		return nil, err
	}
	it := docker.ItemOf(r)
	return &cri.ContainerStatsResponse{Stats: s.containerStats(&it, r)}, nil
}

// ListContainerStats shows what the running containers use.
func (s *Server) ListContainerStats(ctx context.Context, req *cri.ListContainerStatsRequest) (*cri.ListContainerStatsResponse, error) {
	f := req.GetFilter()
	items, err := s.containers.List(ctx, f.GetLabelSelector()[docker.LabelPodUID])
	if err != nil {
		return nil, err
	}
	resp := &cri.ListContainerStatsResponse{}
	for i := range items {
		it := &items[i]
		if it.State != docker.StateRunning || !selects(it, f.GetId(), f.GetPodSandboxId(), f.GetLabelSelector()) {
			continue
		}
		if r, err := s.containers.Inspect(ctx, it.ID); err == nil { // else it has gone meanwhile
			resp.Stats = append(resp.Stats, s.containerStats(it, r))
		}
	}
	return resp, nil
}

// StreamContainerStats is ListContainerStats in pieces.
func (s *Server) StreamContainerStats(req *cri.StreamContainerStatsRequest, stream grpc.ServerStreamingServer[cri.StreamContainerStatsResponse]) error {
	all, err := s.ListContainerStats(stream.Context(), &cri.ListContainerStatsRequest{Filter: req.GetFilter()})
	if err != nil {
		return err
	}
	return inChunks(all.Stats, func(part []*cri.ContainerStats) error {
		return stream.Send(&cri.StreamContainerStatsResponse{ContainerStats: part})
	})
}

func (s *Server) containerStats(it *docker.Item, r *container.InspectResponse) *cri.ContainerStats {
	out := &cri.ContainerStats{Attributes: &cri.ContainerAttributes{
		Id: it.ID, Metadata: convert.ContainerMetadata(it.Identity), Labels: it.Labels, Annotations: it.Annotations,
	}}
	if dir := r.GraphDriver.Data["UpperDir"]; dir != "" {
		if d, ok := s.usage.layers.Of(it.ID, dir); ok {
			out.WritableLayer = &cri.FilesystemUsage{
				Timestamp: d.At.UnixNano(), FsId: &cri.FilesystemIdentifier{Mountpoint: s.docker.About.DockerRootDir},
				UsedBytes: convert.Number(d.Bytes), InodesUsed: convert.Number(d.Inodes),
			}
		}
	}
	if u, at, ok := s.usage.read(r); ok {
		out.Cpu, out.Memory, out.Swap, out.Io = s.usage.cpu(it.ID, u, at), convert.MemoryUsage(u, at), convert.SwapUsage(u, at), convert.IOUsage(u, at)
	}
	return out
}
