package dockershim

import (
	"time"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/stats"
)

// usage reads statistics. Its methods are safe for concurrent use.
type usage struct {
	cgroups *cgroupstats.Reader
	rates   stats.Rates
	layers  *stats.Layers
}

func newUsage() (*usage, error) {
	r, err := cgroupstats.New()
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
func (u *usage) read(r *container.InspectResponse) (cgroupstats.Usage, time.Time, bool) {
	if r.State == nil || !r.State.Running || r.State.Pid == 0 {
		return cgroupstats.Usage{}, time.Time{}, false
	}
	used, err := u.cgroups.Read(r.ID, r.State.Pid)
	return used, time.Now(), err == nil // an error means that it has ended meanwhile
}

// cpu converts a container's or sandbox's use of CPUs, with the rate since the last call.
func (u *usage) cpu(id string, used cgroupstats.Usage, at time.Time) *cri.CpuUsage {
	out := &cri.CpuUsage{Timestamp: at.UnixNano(), UsageCoreNanoSeconds: convert.Number(used.CPU), Psi: convert.Pressure(used.Pressure.CPU)}
	if rate, ok := u.rates.Of(id, used.CPU, at); ok {
		out.UsageNanoCores = convert.Number(rate)
	}
	return out
}
