package agent

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/probe"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/oom"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/collect"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/logrotate"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/readiness"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// runtimeStage brings one pod to the container runtime, and observes what becomes of it there.
type runtimeStage struct {
	volumes   *volume.Manager
	images    *collect.Manager
	probes    *probe.Manager
	manager   *kuberuntime.Manager
	pleg      *pleg.PLEG
	readiness *readiness.Watch
	collector kuberuntime.Collector // of dead containers
	// storageProblems and storageSettled are the supplies'.
	storageProblems func() []string
	storageSettled  <-chan struct{}

	probed       chan probe.Changed // pods for which a probe's verdict has changed
	probeMetrics *prometheus.Registry

	parts []part
}

func newRuntime(f *foundation, h *host, s *supplies) (*runtimeStage, error) {
	volumes, err := volume.New(volume.Config{
		Root: f.cfg.RootDir, Objects: s.objects, Claims: s.claims, CSI: s.csi, NodeLabels: s.nodeLabels,
		Allocatable: h.machine.Allocatable, Warn: f.journal.Warn, Normal: f.journal.Normal, VolumeEvent: s.volumeEvent, Growth: s.growth,
		Metrics: f.metrics, Journal: f.journal, Pods: f.store.Pods,
	})
	if err != nil {
		return nil, err
	}
	images, err := newImages(f, s)
	if err != nil {
		return nil, err
	}
	rt := &runtimeStage{volumes: volumes, storageProblems: s.storageProblems, storageSettled: s.storageSettled, images: images.collector, probed: make(chan probe.Changed), probeMetrics: prometheus.NewRegistry()}
	rt.probes, err = probe.New(probe.Config{
		Exec: f.client, Journal: f.journal, HostIPs: h.hostIPs, Changed: rt.probed, Metrics: rt.probeMetrics, Gate: f.gate,
	})
	if err != nil {
		return nil, err
	}
	rt.manager, err = kuberuntime.New(kuberuntime.Config{
		Objects: s.objects, ServiceEnv: s.serviceEnv, Handler: s.handler,
		CRI: f.client, Images: images.manager, Files: volumes, Node: h.podConfig(f), Clock: clock.RealClock{},
		Name: f.engine.RuntimeName, MaxBackOff: maxBackOff(f.cfg), Journal: f.journal,
		PreStart: h.devices.PreStart,
		Failed:   rt.probes.Failed, Started: rt.probes.Started, Metrics: f.metrics,
	})
	if err != nil {
		return nil, err
	}
	rt.pleg, err = pleg.New(pleg.Config{Runtime: rt.manager, LookTimeout: f.cfg.RuntimeRequestTimeout.Duration, Metrics: f.metrics, Journal: f.journal})
	if err != nil {
		return nil, err
	}
	rt.readiness, err = readiness.New(readiness.Config{
		Runtime: f.client, PodCIDR: s.podCIDR, Changed: s.podCIDRChanged, File: s.podCIDRFile, Wake: f.wakeups.For("the network is ready"),
		Improved: f.readinessChanged,
	})
	if err != nil {
		return nil, err
	}
	rt.collector = kuberuntime.Collector{
		Runtime: rt.manager, Wanted: f.store.MayBeWanted, NodeEvent: f.nodeEvent, Traces: f.traces,
		Policy: kuberuntime.Policy{MinAge: f.cfg.MinimumContainerTTL, PerContainer: int(f.cfg.MaxDeadPerContainer), Total: int(f.cfg.MaxDeadContainers)},
	}
	rt.parts = append([]part{{"readiness", rt.readiness.Run}, {"pleg", rt.pleg.Run}, {"probes", rt.probes.Run}, {"garbage collection", rt.collector.Run}}, images.parts...)
	kills := oom.New(oom.Config{Pods: rt.pleg.Pods, Event: f.nodeEvent})
	rt.parts = append(rt.parts, part{"OOM watcher", kills.Run}, part{"volumes", volumes.Run})
	rotator, err := newLogRotator(f, rt.pleg)
	if err != nil {
		return nil, err
	}
	rt.parts = append(rt.parts, part{"log rotation", rotator.Run})
	return rt, nil
}

func newLogRotator(f *foundation, seen *pleg.PLEG) (*logrotate.Rotator, error) {
	size, err := options.ParseLogSize(f.cfg.ContainerLogMaxSize)
	if err != nil {
		return nil, fmt.Errorf("containerLogMaxSize: %w", err)
	}
	return logrotate.New(logrotate.Config{
		Runtime: f.client, Pods: seen.Pods, Listed: seen.Listed(), Root: f.cfg.PodLogsDir,
		Limits:  logrotate.Limits{Size: size, Files: int(*f.cfg.ContainerLogMaxFiles)},
		Workers: int(*f.cfg.ContainerLogMaxWorkers), Interval: f.cfg.ContainerLogMonitorInterval.Duration, Clock: clock.RealClock{},
	})
}

// problems returns what keeps the node from being ready, beside what the runtime
// says.
func (rt *runtimeStage) problems() (all []string) {
	if err := rt.pleg.Healthy(time.Now()); err != nil {
		all = append(all, "PLEG is not healthy: "+err.Error())
	}
	if rt.storageProblems != nil {
		all = append(all, rt.storageProblems()...)
	}
	return all
}

func maxBackOff(cfg *config.Config) time.Duration {
	if d := cfg.CrashLoopBackOff.MaxContainerRestartPeriod; d != nil {
		return d.Duration
	}
	return 0
}
