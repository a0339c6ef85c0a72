package dockershim

import (
	"context"
	"time"

	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/stats"
)

// usage is what statistics are read with.
type usage struct {
	cgroups *stats.Reader
	rates   stats.Rates
	layers  *stats.Layers
}

func newUsage() (*usage, error) {
	r, err := stats.New()
	if err != nil {
		return nil, err
	}
	return &usage{cgroups: r, layers: stats.NewLayers()}, nil
}

// forget drops what is remembered of a container that has ended.
func (u *usage) forget(id string) {
	u.cgroups.Forget(id)
	u.rates.Forget(id)
	u.layers.Forget(id)
}

// ContainerStats shows what one container uses. Of one that does not run only the
// writable layer is left to show.
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
	items, err := s.view.List(ctx, f.GetLabelSelector()[docker.LabelPodUID])
	if err != nil {
		return nil, err
	}
	resp := &cri.ListContainerStatsResponse{}
	for i := range items {
		it := &items[i]
		if it.State != docker.StateRunning || !selects(it, f.GetId(), f.GetPodSandboxId(), f.GetLabelSelector()) {
			continue
		}
		if r, err := s.view.Inspect(ctx, it.ID); err == nil { // else it has gone meanwhile
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
	if u, at, ok := s.read(r); ok {
		out.Cpu, out.Memory, out.Swap, out.Io = s.cpu(it.ID, u, at), convert.MemoryUsage(u, at), convert.SwapUsage(u, at), convert.IOUsage(u, at)
	}
	return out
}

// read reads the cgroup of a container that runs.
func (s *Server) read(r *container.InspectResponse) (stats.Usage, time.Time, bool) {
	if r.State == nil || !r.State.Running || r.State.Pid == 0 {
		return stats.Usage{}, time.Time{}, false
	}
	u, err := s.usage.cgroups.Read(r.ID, r.State.Pid)
	return u, time.Now(), err == nil // an error: it has ended meanwhile
}

func (s *Server) cpu(id string, u stats.Usage, at time.Time) *cri.CpuUsage {
	out := &cri.CpuUsage{Timestamp: at.UnixNano(), UsageCoreNanoSeconds: convert.Number(u.CPU), Psi: convert.Pressure(u.Pressure.CPU)}
	if rate, ok := s.usage.rates.Of(id, u.CPU, at); ok {
		out.UsageNanoCores = convert.Number(rate)
	}
	return out
}

// PodSandboxStats shows what one pod uses: its sandbox and its containers.
func (s *Server) PodSandboxStats(ctx context.Context, req *cri.PodSandboxStatsRequest) (*cri.PodSandboxStatsResponse, error) {
	r, err := s.inspect(ctx, "pod_sandbox_id", req.PodSandboxId, docker.TypeSandbox)
	if err != nil {
		return nil, err
	}
	pods, err := s.podStats(ctx, &cri.PodSandboxStatsFilter{Id: r.ID})
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, grpccode.NotFound("running sandbox", req.PodSandboxId)
	}
	return &cri.PodSandboxStatsResponse{Stats: pods[0].stats}, nil
}

// ListPodSandboxStats shows what the pods with a running sandbox use.
func (s *Server) ListPodSandboxStats(ctx context.Context, req *cri.ListPodSandboxStatsRequest) (*cri.ListPodSandboxStatsResponse, error) {
	pods, err := s.podStats(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	resp := &cri.ListPodSandboxStatsResponse{}
	for _, p := range pods {
		resp.Stats = append(resp.Stats, p.stats)
	}
	return resp, nil
}

// StreamPodSandboxStats is ListPodSandboxStats in pieces.
func (s *Server) StreamPodSandboxStats(req *cri.StreamPodSandboxStatsRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxStatsResponse]) error {
	all, err := s.ListPodSandboxStats(stream.Context(), &cri.ListPodSandboxStatsRequest{Filter: req.GetFilter()})
	if err != nil {
		return err
	}
	return inChunks(all.Stats, func(part []*cri.PodSandboxStats) error {
		return stream.Send(&cri.StreamPodSandboxStatsResponse{PodSandboxStats: part})
	})
}

// podUsage is a pod's statistics, with what metrics say besides.
type podUsage struct {
	stats      *cri.PodSandboxStats
	interfaces []stats.Interface
}

// podStats reads all pods with a running sandbox that the filter lets through.
func (s *Server) podStats(ctx context.Context, f *cri.PodSandboxStatsFilter) ([]podUsage, error) {
	items, err := s.view.List(ctx, f.GetLabelSelector()[docker.LabelPodUID])
	if err != nil {
		return nil, err
	}
	containers := map[string][]*docker.Item{}
	for i := range items {
		if it := &items[i]; !it.IsSandbox && it.State == docker.StateRunning {
			containers[it.SandboxID] = append(containers[it.SandboxID], it)
		}
	}
	var all []podUsage
	for i := range items {
		it := &items[i]
		if !it.IsSandbox || it.State != docker.StateRunning || !it.Matches(f.GetId(), f.GetLabelSelector()) {
			continue
		}
		if p, ok := s.onePod(ctx, it, containers[it.ID]); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// onePod sums what a pod's sandbox and containers use.
func (s *Server) onePod(ctx context.Context, sandbox *docker.Item, containers []*docker.Item) (podUsage, bool) {
	r, err := s.view.Inspect(ctx, sandbox.ID)
	if err != nil {
		return podUsage{}, false
	}
	sum, at, ok := s.read(r)
	if !ok {
		return podUsage{}, false
	}
	pid := r.State.Pid
	linux := &cri.LinuxPodSandboxStats{}
	for _, c := range containers {
		r, err := s.view.Inspect(ctx, c.ID)
		if err != nil {
			continue
		}
		linux.Containers = append(linux.Containers, s.containerStats(c, r))
		if u, _, ok := s.read(r); ok {
			sum.CPU += u.CPU
			sum.Memory += u.Memory
			sum.WorkingSet += u.WorkingSet
			sum.RSS += u.RSS
			sum.PageFaults += u.PageFaults
			sum.MajorFaults += u.MajorFaults
			sum.Processes += u.Processes
		}
	}
	sum.MemoryLimit = 0 // of the sandbox alone, and so of nothing
	sum.Pressure = stats.Pressure{}
	linux.Cpu, linux.Memory = s.cpu(sandbox.ID, sum, at), convert.MemoryUsage(sum, at)
	linux.Process = &cri.ProcessUsage{Timestamp: at.UnixNano(), ProcessCount: convert.Number(sum.Processes)}
	p := podUsage{stats: &cri.PodSandboxStats{
		Attributes: &cri.PodSandboxAttributes{Id: sandbox.ID, Metadata: convert.SandboxMetadata(sandbox.Identity), Labels: sandbox.Labels, Annotations: sandbox.Annotations},
		Linux:      linux,
	}}
	if !r.HostConfig.NetworkMode.IsHost() { // the host's traffic is not the pod's
		if p.interfaces, err = stats.Network(pid); err == nil {
			linux.Network = convert.NetworkUsage(p.interfaces, at)
		}
	}
	return p, true
}
