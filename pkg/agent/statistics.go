package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/cadvisor"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/stats"
)

// statistics tell what the node and its pods use.
type statistics struct {
	summary            *stats.Source
	resource, cadvisor prometheus.Gatherer
}

func newStatistics(f *foundation, h *host, rt *runtimeStage) (*statistics, error) {
	booted := bootTime()
	summary, err := stats.New(stats.Config{
		Runtime: f.client, Node: f.cfg.NodeName, Root: f.cfg.RootDir, Pod: f.store.Get, Status: f.statuses.Get, Booted: booted,
	})
	if err != nil {
		return nil, err
	}
	resource, err := summary.Metrics()
	if err != nil {
		return nil, err
	}
	c := cadvisor.Config{
		Runtime: f.client, Observed: rt.pleg.Pods, Pod: f.store.Get, Status: f.statuses.Get, System: systemCgroups(h),
		Layers: summary.Layers, SandboxImage: sandboxImage(f), Root: f.cfg.RootDir, Booted: booted,
		Version: config.KubernetesVersion,
	}
	if h.cgroups != nil {
		c.Cgroup = h.cgroups.Parent
	}
	metrics, err := cadvisor.New(c)
	return &statistics{summary, resource, metrics}, err
}

// systemCgroups are those of no pod that are measured: those above pods, and the agent's own.
func systemCgroups(h *host) []string {
	var all []string
	if h.cgroups != nil {
		all = h.cgroups.Above()
	}
	if r, err := cgroupstats.New(); err == nil {
		if own, err := r.Own("self"); err == nil && own != "/" {
			all = append(all, own)
		}
	}
	return all
}

// sandboxImage is how the image of sandboxes is called in metrics. CRI does not tell it.
func sandboxImage(f *foundation) string {
	if image := f.cfg.PodInfraContainerImage; image != "" {
		return image
	}
	return "pause"
}

// bootTime returns when the machine was started.
func bootTime() time.Time {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second).Truncate(time.Second)
}
