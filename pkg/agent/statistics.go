package agent

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
	kubelet "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
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
	booted, system := bootTime(), systemCgroups(f, h)
	summary, err := stats.New(stats.Config{
		Runtime: f.client, Node: f.cfg.NodeName, Root: f.cfg.RootDir, Pod: f.store.Get, Status: f.statuses.Get, Booted: booted,
		Volumes: rt.volumes, VolumePeriod: cmp.Or(f.cfg.VolumeStatsAggPeriod.Duration, -1), System: system,
		LogDir: f.logDir,
	})
	if err != nil {
		return nil, err
	}
	for _, c := range append(stats.Self(f.cfg.NodeName, config.KubernetesVersion), summary.Volumes(f.store.Pods), summary.LogSizes(f.store.Pods)) {
		if err := f.metrics.Register(c); err != nil {
			return nil, err
		}
	}
	if err := describeNode(f); err != nil {
		return nil, err
	}
	resource, err := summary.Metrics()
	if err != nil {
		return nil, err
	}
	c := cadvisor.Config{
		Runtime: f.client, Observed: rt.pleg.Pods, Pod: f.store.Get, Status: f.statuses.Get, System: slices.Collect(maps.Values(system)),
		Layers: summary.Layers, SandboxImage: sandboxImage(f), Root: f.cfg.RootDir, Booted: booted,
		Version: config.KubernetesVersion,
	}
	if h.cgroups != nil {
		c.Cgroup, c.System = h.cgroups.Parent, append(c.System, h.cgroups.Classes()...)
	}
	metrics, err := cadvisor.New(c)
	return &statistics{summary, resource, metrics}, err
}

// describeNode exports what is so as long as the agent runs.
func describeNode(f *foundation) error {
	set := metricset.New(f.metrics)
	version := 1.0
	if cgroupV2() {
		version = 2
	}
	set.Gauge("kubelet_cgroup_version", "The version of the machine's cgroups").Set(version)
	set.Gauges("kubelet_metrics_provider", "Where statistics of containers come from", "provider").WithLabelValues("cri").Set(1)
	features := set.Gauges("kubernetes_feature_enabled", "Which of the features that can be switched here are on", "name", "stage")
	for _, g := range f.cfg.Gates() {
		on := 0.0
		if g.On {
			on = 1
		}
		features.WithLabelValues(string(g.Name), g.Stage).Set(on)
	}
	return set.Err()
}

// systemCgroups are the cgroups of the node's own parts, by the names that the API has for
// them: those that are given, else those that the processes are in.
func systemCgroups(f *foundation, h *host) map[string]string {
	all := map[string]string{kubelet.SystemContainerRuntime: f.cfg.RuntimeCgroups, kubelet.SystemContainerMisc: f.cfg.SystemCgroups}
	if h.cgroups != nil {
		all[kubelet.SystemContainerPods] = h.cgroups.Root()
	}
	if r, err := cgroupstats.New(); err == nil {
		all[kubelet.SystemContainerKubelet], _ = r.Own("self")
		socket := f.cfg.RuntimeEndpoint()
		if f.cfg.InProcessDockershim() {
			socket = f.cfg.DockerEndpoint
		}
		if pid := cgroupstats.Listener(socket); pid > 1 && f.cfg.RuntimeCgroups == "" { // systemd listens for many
			all[kubelet.SystemContainerRuntime], _ = r.Own(strconv.Itoa(pid))
		}
	}
	// What runs in the root cgroup is not told apart from the machine.
	maps.DeleteFunc(all, func(_, path string) bool { return path == "" || path == "/" })
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

// processStart returns when the agent was started.
func processStart() time.Time {
	self, err := procfs.Self()
	if err != nil {
		return time.Time{}
	}
	stat, err := self.Stat()
	if err != nil {
		return time.Time{}
	}
	seconds, err := stat.StartTime()
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(int64(seconds * 1000))
}
