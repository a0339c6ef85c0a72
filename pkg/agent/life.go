package agent

import (
	"context"
	"maps"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission"
	"github.com/mini-kubelet/mini-kubelet/pkg/admission/resize"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction/nodepressure"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/loop"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/preemption"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/shutdown"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// life decides what becomes of pods.
type life struct {
	loop     *loop.Loop
	workers  *worker.Workers
	pressure *nodepressure.Manager
	shutdown *shutdown.Manager // nil: a shutdown of the machine waits for nobody
	sources  *sources
	parts    []part
}

// problems returns what keeps the node from being ready.
func (l *life) problems() []string {
	if l.shutdown.Ending() {
		return []string{"node is shutting down"}
	}
	return nil
}

func newLife(f *foundation, h *host, s *supplies, rt *runtimeStage) (*life, error) {
	resizes, err := newResizes(f, h)
	if err != nil {
		return nil, err
	}
	workers, err := newWorkers(f, h, s, rt, resizes)
	if err != nil {
		return nil, err
	}
	l, evictions := &life{workers: workers}, make(chan worker.Update)
	if err := l.addShutdown(f, evictions); err != nil {
		return nil, err
	}
	pressure, evicting, err := newEviction(f, h, rt, workers, evictions)
	if err != nil {
		return nil, err
	}
	l.pressure = pressure
	admitter, err := newAdmitter(f, h, s, l, resizes)
	if err != nil {
		return nil, err
	}
	sources, err := newSources(f.cfg, s, f.journal)
	if err != nil {
		return nil, err
	}
	l.sources = sources
	preemptor, err := preemption.New(preemption.Config{Victims: admitter.Victims, Now: time.Now, Journal: f.journal, Metrics: f.metrics})
	if err != nil {
		return nil, err
	}
	var requested func(old, now *v1.Pod)
	if resizes != nil {
		requested = resizes.Requested
	}
	l.loop, err = loop.New(loop.Config{
		Sources: sources.names, Changes: sources.mux.Changes(), Events: rt.pleg.Events(), Probes: rt.probed,
		Wakeups: f.wakeups, Evictions: evictions, Cleared: clearedFor(f.cfg, l.pressure), CalledOff: l.shutdown.CalledOff(), Store: f.store, Workers: workers, Runtime: rt.pleg, Clock: clock.RealClock{},
		Admission: admitter, Preemption: preemptor, Statuses: f.statuses, Journal: f.journal, Mirrors: s.mirrors, Refresh: s.refresh, Release: config.KubernetesVersion,
		Requested: requested, Starts: f.starts, Metrics: f.metrics, Gate: f.gate,
	})
	if err != nil {
		return nil, err
	}
	l.parts = append(l.parts, part{"workers", workers.Run}, part{"sync loop", l.loop.Run})
	if h.cpus != nil {
		updater, err := newCPUUpdater(f, h.cpus, rt.pleg)
		if err != nil {
			return nil, err
		}
		l.parts = append(l.parts, updater)
	}
	l.parts = append(append(l.parts, evicting...), sources.parts...)
	return l, nil
}

// newResizes makes the store of what the API server's pods have been given; nil on a
// standalone node: a static pod that changes is a different pod. A resize that waits for room
// is tried again when a pod has gone.
func newResizes(f *foundation, h *host) (*resize.Store, error) {
	if f.cfg.Standalone() {
		return nil, nil
	}
	return resize.New(resize.Config{
		Dir: stateDir(f.cfg, "allocated"), Allocatable: h.machine.Allocatable,
		StaticCPUs: h.cpus != nil, StaticMemory: h.memory != nil, Freed: f.wakeups.For("resources are free"), Metrics: f.metrics,
	})
}

func newWorkers(f *foundation, h *host, s *supplies, rt *runtimeStage, resizes *resize.Store) (*worker.Workers, error) {
	cfg := worker.Config{
		Cache: rt.pleg, Runtime: rt.manager, Holdings: holdings(f, h, s, rt, resizes), Statuses: f.statuses, Clock: clock.RealClock{}, Journal: f.journal,
		Probes: rt.probes, SyncFrequency: f.cfg.SyncFrequency.Duration, HostIPs: h.hostIPs,
		Recall: s.recall, Devices: h.devices.Health, Network: rt.readiness.Network, Starts: f.starts, Metrics: f.metrics, Traces: f.traces, Gate: f.gate,
	}
	if resizes != nil {
		cfg.Allocations, cfg.Promised = resizes, f.store.Promised
	}
	return worker.New(cfg)
}

// holdings lists what a pod has of the node, in the order in which it gets them.
func holdings(f *foundation, h *host, s *supplies, rt *runtimeStage, resizes *resize.Store) []worker.Holding {
	var list []worker.Holding
	if resizes != nil {
		list = append(list, worker.Holding{
			Name:    "resources",
			Release: func(_ context.Context, uid types.UID) error { return resizes.Remove(uid) },
			Orphans: func(_ context.Context, gone func(types.UID) bool) error { return resizes.Orphans(gone) },
		})
	}
	allocate := h.allocate(rt.pleg)
	list = append(list, worker.Holding{
		Name: "parts of the machine", ReasonOf: unrecorded,
		SetUp:   func(_ context.Context, pod *v1.Pod) error { return allocate(pod) },
		Stopped: h.topology.Release,
		Orphans: func(_ context.Context, gone func(types.UID) bool) error { return h.topology.Orphans(gone) },
	}, worker.Holding{
		Name: "devices", Reason: "DevicesNotReady",
		SetUp: h.devices.SetUp,
	})
	if h.cgroups != nil {
		list = append(list, worker.Holding{
			Name: "cgroup", Reason: "FailedCreatePodContainer", Prefix: "unable to ensure pod container exists: ",
			SetUp:   func(_ context.Context, pod *v1.Pod) error { return h.cgroups.SetUp(pod) },
			Settle:  h.cgroups.Settle,
			Release: func(_ context.Context, uid types.UID) error { return h.cgroups.Remove(uid) },
			Orphans: h.cgroups.Orphans,
		})
	}
	logs := kuberuntime.NewOrphanLogs(f.cfg.PodLogsDir, f.owns)
	return append(list,
		worker.Holding{Name: "place in the wait for the network", Stopped: func(uid types.UID) error { rt.readiness.Forget(uid); return nil }},
		// Objects are followed before volumes are made from them, and until the volumes are
		// gone.
		worker.Holding{
			Name:    "objects",
			SetUp:   func(_ context.Context, pod *v1.Pod) error { s.objects.Register(pod); return nil },
			Release: func(_ context.Context, uid types.UID) error { s.objects.Unregister(uid); return nil },
		},
		worker.Holding{
			Name: "volumes", Reason: "FailedMount", ReasonOf: volume.FailureReason,
			SetUp: rt.volumes.SetUp, Release: rt.volumes.TearDown, Orphans: rt.volumes.Orphans,
		},
		// Orphans are looked for from the last to the first: of logs before the volumes, with
		// which goes the mark that says whose pod it is.
		worker.Holding{Name: "logs", SetUp: logs.SetUp, Orphans: logs.Orphans})
}

// addShutdown adds the part that ends pods when the machine is shut down, if it is to.
func (l *life) addShutdown(f *foundation, updates chan<- worker.Update) (err error) {
	periods := shutdown.Periods(f.cfg.ShutdownGracePeriodByPodPriority, f.cfg.ShutdownGracePeriod.Duration, f.cfg.ShutdownGracePeriodCriticalPods.Duration)
	if len(periods) == 0 {
		return nil
	}
	l.shutdown, err = shutdown.New(shutdown.Config{
		Machine: &shutdown.Logind{}, Periods: periods, Updates: updates, Clock: clock.RealClock{},
		Pods:  func() []*v1.Pod { return l.workers.Pods(worker.Terminated) },
		Ended: l.workers.Ended, Changed: f.readinessChanged, Event: f.nodeEvent,
		Metrics: f.metrics, File: stateDir(f.cfg, "shutdown.json"),
	})
	l.parts = append(l.parts, part{"shutdown", l.shutdown.Run})
	return err
}

func newAdmitter(f *foundation, h *host, s *supplies, l *life, resizes *resize.Store) (*admission.Admitter, error) {
	offer := h.offer(f.cfg, s)
	offer.EvictStatic = evictsStatic(f.cfg)
	cfg := admission.Config{Node: func() admission.Node {
		now := offer
		now.Allocatable = h.machine.Allocatable()
		now = now.In(s.node())
		now.Allocatable = now.Allocatable.DeepCopy()
		maps.Copy(now.Allocatable, h.devices.Allocatable())
		now.Pressure = l.pressure.Conditions()
		now.ShuttingDown = l.shutdown.Ending()
		return now
	}}
	cfg.Allocators = append(cfg.Allocators, h.topology)
	if resizes != nil {
		cfg.Allocated = resizes.Of
	}
	return admission.New(cfg)
}
