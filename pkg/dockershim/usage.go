package dockershim

import (
	"time"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/stats"
)

// usage reads statistics. Its methods are safe for concurrent use.
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

// forget drops what is remembered about a container that has ended.
func (u *usage) forget(id string) {
	u.cgroups.Forget(id)
	u.rates.Forget(id)
	u.layers.Forget(id)
}

// read reads the cgroup of a container. It returns false when the container does not run.
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
