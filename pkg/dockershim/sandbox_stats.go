package dockershim

import (
	"context"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

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

// podUsage holds a pod's statistics, and what only metrics show.
type podUsage struct {
	stats      *cri.PodSandboxStats
	interfaces []cgroupstats.Interface
}

// podStats reads the pods with a running sandbox that the filter lets through.
func (s *Server) podStats(ctx context.Context, f *cri.PodSandboxStatsFilter) ([]podUsage, error) {
	items, err := s.containers.List(ctx, f.GetLabelSelector()[docker.LabelPodUID])
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

// onePod adds up what a pod's sandbox and containers use. It returns false when the sandbox
// has ended meanwhile.
func (s *Server) onePod(ctx context.Context, sandbox *docker.Item, containers []*docker.Item) (podUsage, bool) {
	r, err := s.containers.Inspect(ctx, sandbox.ID)
	if err != nil {
		return podUsage{}, false
	}
	sum, at, ok := s.usage.read(r)
	if !ok {
		return podUsage{}, false
	}
	pid := r.State.Pid
	linux := &cri.LinuxPodSandboxStats{}
	for _, c := range containers {
		r, err := s.containers.Inspect(ctx, c.ID)
		if err != nil {
			continue
		}
		linux.Containers = append(linux.Containers, s.containerStats(c, r))
		if u, _, ok := s.usage.read(r); ok {
			sum.CPU += u.CPU
			sum.Memory += u.Memory
			sum.WorkingSet += u.WorkingSet
			sum.RSS += u.RSS
			sum.PageFaults += u.PageFaults
			sum.MajorFaults += u.MajorFaults
			sum.Processes += u.Processes
		}
	}
	sum.MemoryLimit = 0 // it was the sandbox's alone
	sum.Pressure = cgroupstats.Pressure{}
	linux.Cpu, linux.Memory = s.usage.cpu(sandbox.ID, sum, at), convert.MemoryUsage(sum, at)
	linux.Process = &cri.ProcessUsage{Timestamp: at.UnixNano(), ProcessCount: convert.Number(sum.Processes)}
	p := podUsage{stats: &cri.PodSandboxStats{
		Attributes: &cri.PodSandboxAttributes{Id: sandbox.ID, Metadata: convert.SandboxMetadata(sandbox.Identity), Labels: sandbox.Labels, Annotations: sandbox.Annotations},
		Linux:      linux,
	}}
	if !r.HostConfig.NetworkMode.IsHost() { // the host's traffic is not the pod's
		if p.interfaces, err = cgroupstats.Network(pid); err == nil {
			linux.Network = convert.NetworkUsage(p.interfaces, at)
		}
	}
	return p, true
}
