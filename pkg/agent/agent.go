// Package agent is the composition root: it builds every part from the
// configuration, runs them, and stops them in order. The only package that knows
// all the others.
//
//	sources ─▶ mux ─▶ loop ─▶ workers ─▶ runtime ─▶ CRI ─▶ dockershim (or another runtime)
//	                   ▲          ▲          ▲
//	                   └── pleg ──┘          └─ images, volumes, criconfig
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/podobjects"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/loop"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/probe"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/podaccess"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/stats"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// runtimeWait is how long the agent waits for a runtime to answer before it gives
// up: what supervises the agent then starts it again.
const runtimeWait = 30 * time.Second

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

// Run runs the agent until ctx ends or a part fails. It stops no container. out is
// where the agent speaks to a person, with --show-pods.
func Run(ctx context.Context, cfg *config.Config, out io.Writer) error {
	unlock, err := lock(cfg.RootDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := setUpProcess(cfg); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if ownDockershim(cfg) {
		shim, err := newDockershim(ctx, cfg)
		if err != nil {
			return err
		}
		group.Go(func() error { return shim.Run(ctx) })
	}
	err = start(ctx, group, cfg, out)
	if err != nil {
		// What runs already is stopped, and its error is the cause if it has one.
		group.Go(func() error { return err })
	}
	return group.Wait()
}

// start builds the parts above CRI and has the group run them.
func start(ctx context.Context, group *errgroup.Group, cfg *config.Config, out io.Writer) error {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	client, err := criclient.New(criclient.Config{
		Endpoint: cfg.RuntimeEndpoint(), ImageEndpoint: cfg.ImageEndpoint(),
		Timeout: cfg.RuntimeRequestTimeout.Duration, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	group.Go(func() error {
		<-ctx.Done()
		return client.Close()
	})
	wait, cancel := context.WithTimeoutCause(ctx, runtimeWait, fmt.Errorf("no answer within %v", runtimeWait))
	defer cancel()
	version, err := client.Wait(wait)
	if err != nil {
		return err
	}
	klog.InfoS("Container runtime", "endpoint", cfg.RuntimeEndpoint(), "name", version.RuntimeName, "version", version.RuntimeVersion, "apiVersion", version.RuntimeApiVersion)

	engine := engine{VersionResponse: version, systemd: cgroupDriver(wait, cfg, client), recursiveReadOnly: recursiveReadOnly(wait, client)}
	parts, err := compose(cfg, client, engine, metrics, out)
	if err != nil {
		return err
	}
	for _, p := range parts {
		group.Go(func() error {
			if err := p.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	return nil
}

// engine is what the runtime says of itself.
type engine struct {
	*criapi.VersionResponse
	systemd           bool // makes its cgroups through systemd
	recursiveReadOnly bool // can mount all below a mount read-only, by its default handler
}

func recursiveReadOnly(ctx context.Context, client *criclient.Client) bool {
	s, err := client.Status(ctx, &criapi.StatusRequest{})
	if err != nil {
		klog.ErrorS(err, "The runtime does not tell what it can do; it is asked for no recursive read-only mounts")
		return false
	}
	return slices.ContainsFunc(s.RuntimeHandlers, func(h *criapi.RuntimeHandler) bool {
		return h.Name == "" && h.GetFeatures().GetRecursiveReadOnlyMounts()
	})
}

// compose makes the parts and wires them to each other.
func compose(cfg *config.Config, client *criclient.Client, engine engine, metrics *prometheus.Registry, out io.Writer) ([]part, error) {
	node, err := newNode(cfg)
	if err != nil {
		return nil, err
	}
	node.NoHugePageLimits, node.RecursiveReadOnly = engine.RuntimeName == "docker", engine.recursiveReadOnly
	var syncLoop *loop.Loop
	unwanted := func(uid types.UID) bool { return !syncLoop.MayBeWanted(uid) }
	err = newCPUs(cfg, node, unwanted)
	if err != nil {
		return nil, err
	}
	store := podstore.New()
	api, err := joinCluster(cfg, store)
	if err != nil {
		return nil, err
	}
	cgroups, err := newCgroups(cfg, node, engine.systemd, memoryQoS(cfg, node, engine.RuntimeName), api.nodeEvent())
	if err != nil {
		return nil, err
	}
	events := journal.New(time.Now, api.sinks()...)
	node.Warn = func(pod *v1.Pod, reason, message string) {
		if cfg.Standalone() && reason == criconfig.ReasonMissingClusterDNS {
			return // there is no cluster whose DNS could be missing
		}
		events.Record(pod, "", v1.EventTypeWarning, reason, message)
	}
	statuses := podstatus.NewManager()
	statusChanged := statuses.Changed()

	var workers *worker.Workers
	// The kubelet looks at a pod's objects when it syncs the pod; here their change
	// has it synced.
	changed := func(uids []types.UID) {
		for _, uid := range uids {
			if pod, ok := store.Get(uid); ok {
				workers.Update(worker.Update{Kind: worker.Sync, Pod: pod})
			}
		}
	}
	var podObjects podObjects
	volumeConfig := volume.Config{
		Root: cfg.RootDir, Allocatable: func() v1.ResourceList { return node.Allocatable },
		Warn: func(pod *v1.Pod, reason, message string) {
			events.Record(pod, "", v1.EventTypeWarning, reason, message)
		},
	}
	local, err := podobjects.NewLocal(podobjects.LocalConfig{Changed: changed, Labels: node.offer.Labels, Bindings: stateDir(cfg, "claims.json")})
	if err != nil {
		return nil, err
	}
	var localDrivers *csi.Manager
	if api == nil {
		podObjects = local
		node.offer.StaticFields.Objects, node.offer.StaticFields.Claims = true, true
		if localDrivers, err = localStorage(cfg, node, local, store, changed, &volumeConfig); err != nil {
			return nil, err
		}
	} else {
		if err := api.watchObjects(cfg, changed); err != nil {
			return nil, err
		}
		podObjects = clusterObjects{api.objects, api.tokens, api.bundles}
		if err := api.storage(cfg, node, changed, &volumeConfig); err != nil {
			return nil, err
		}
		node.offer.Fields.Objects, node.offer.Fields.Tokens, node.offer.Fields.Claims = true, true, true
		node.offer.Fields.Bundles, node.offer.Fields.Control = true, true
		node.offer.Fields.Classes, node.offer.StaticFields.Classes = true, true
	}
	volumeConfig.Objects = podObjects
	volumes, err := volume.New(volumeConfig)
	if err != nil {
		return nil, err
	}
	images, imageRecords, err := newImages(cfg, client, podObjects, api, events)
	if err != nil {
		return nil, err
	}
	probeChanged := make(chan types.UID)
	probeMetrics := prometheus.NewRegistry()
	probes, err := probe.New(probe.Config{
		Exec: client, Journal: events, HostIPs: func() []string { return node.HostIPs }, Changed: probeChanged, Metrics: probeMetrics,
	})
	if err != nil {
		return nil, err
	}
	rt, err := kuberuntime.New(kuberuntime.Config{
		Objects: podObjects, ServiceEnv: api.serviceEnv(), Handler: api.handler(),
		CRI: client, Images: images, Files: volumes, Node: node.Node, Clock: clock.RealClock{},
		Name: engine.RuntimeName, MaxBackOff: maxBackOff(cfg), Journal: events,
		Failed: probes.Failed, Started: probes.Started,
	})
	if err != nil {
		return nil, err
	}
	eyes, err := pleg.New(pleg.Config{Runtime: rt, LookTimeout: cfg.RuntimeRequestTimeout.Duration, Metrics: metrics})
	if err != nil {
		return nil, err
	}
	// What was not in use when a round of housekeeping began may be wanted by now.
	gone := func(inUse map[types.UID]bool) func(types.UID) bool {
		return func(uid types.UID) bool { return !inUse[uid] && unwanted(uid) }
	}
	var podCgroups worker.Cgroups
	clean := []func(context.Context, map[types.UID]bool) error{volumes.Orphans}
	if cgroups != nil {
		podCgroups = cgroups
		clean = append(clean, func(ctx context.Context, inUse map[types.UID]bool) error { return cgroups.Orphans(ctx, gone(inUse)) })
	}
	var allocations worker.Allocations
	if api != nil {
		given, err := newAllocations(cfg, node, store, func() *worker.Workers { return workers }, changed)
		if err != nil {
			return nil, err
		}
		allocations, node.given = given, given.Of
		clean = append(clean, func(_ context.Context, inUse map[types.UID]bool) error { return given.Orphans(gone(inUse)) })
	}
	var cpus worker.CPUs
	if node.cpus != nil {
		cpus = podCPUs{node.cpus, node.gone}
		clean = append(clean, func(_ context.Context, inUse map[types.UID]bool) error { return node.cpus.Orphans(gone(inUse)) })
	}
	workers, err = worker.New(worker.Config{
		Allocations: allocations,
		Cgroups:     podCgroups,
		CPUs:        cpus,
		Cache:       eyes, Runtime: rt, Volumes: volumesOf{volumes, podObjects}, Statuses: statuses, Clock: clock.RealClock{}, Journal: events,
		Probes: probes, SyncFrequency: cfg.SyncFrequency.Duration, HostIPs: func() []string { return node.HostIPs },
		Recall: api.recall(),
	})
	if err != nil {
		return nil, err
	}
	sources, err := newSources(cfg, api, local)
	if err != nil {
		return nil, err
	}
	syncLoop, err = loop.New(loop.Config{
		Sources: sources.names, Changes: sources.mux.Changes(), Events: eyes.Events(), Probes: probeChanged, Store: store,
		Workers: workers, Runtime: eyes, Clock: clock.RealClock{},
		Admit: node.admit,
		Reject: func(pod *v1.Pod, r loop.Rejection) {
			events.Record(pod, "", v1.EventTypeWarning, r.Reason, r.Message)
			statuses.Set(pod, rejected(pod, r))
		},
		Mirrors: api.mirrored(), CleanDirs: func(ctx context.Context, inUse map[types.UID]bool) (err error) {
			for _, c := range clean {
				err = errors.Join(err, c(ctx, inUse))
			}
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	if api != nil {
		err := api.build(cfg, clusterParts{
			machine: node, runtime: client, version: engine.VersionResponse, statuses: statuses, ready: syncLoop.Ready, journal: events,
			healthy: func() []string {
				if err := eyes.Healthy(time.Now()); err != nil {
					return []string{"PLEG is not healthy: " + err.Error()}
				}
				return nil
			},
		})
		if err != nil {
			return nil, err
		}
		if err := sources.follow(cfg, api); err != nil {
			return nil, err
		}
	}
	pods := view{store, statuses}
	reach, err := podaccess.New(podaccess.Config{CRI: client, Pods: store, Statuses: statuses, Cache: eyes})
	if err != nil {
		return nil, err
	}
	used, err := stats.New(stats.Config{
		Runtime: client, Node: cfg.NodeName, Root: cfg.RootDir, Pod: store.Get, Status: statuses.Get, Booted: bootTime(),
	})
	if err != nil {
		return nil, err
	}
	kubeletAPI, apiParts, err := api.kubeletAPI(cfg, node, reach, used, metrics, probeMetrics)
	if err != nil {
		return nil, err
	}
	front, err := server.New(server.Config{
		API:           kubeletAPI,
		HealthzListen: cfg.HealthzListen(), ReadOnlyListen: readOnlyListen(cfg), Pods: pods, Metrics: metrics, Probes: probeMetrics,
		Checks: []server.Check{
			{Name: "pleg", Check: func(context.Context) error { return eyes.Healthy(time.Now()) }},
			{Name: "syncloop", Check: func(context.Context) error { return syncLoop.Healthy(time.Now()) }},
		},
	})
	if err != nil {
		return nil, err
	}
	evictions, err := newEviction(cfg, client, volumes, store, workers, events, metrics)
	if err != nil {
		return nil, err
	}
	collector := garbageCollector{
		runtime: rt, wanted: func(uid types.UID) bool { return syncLoop.MayBeWanted(uid) }, event: api.nodeEvent(),
		policy: kuberuntime.Policy{MinAge: cfg.MinimumContainerTTL, PerContainer: int(cfg.MaxDeadPerContainer), Total: int(cfg.MaxDeadContainers)},
	}
	parts := []part{
		{"pleg", eyes.Run}, {"workers", workers.Run}, {"probes", probes.Run}, {"sync loop", syncLoop.Run}, {"server", front.Run},
		{"garbage collection", collector.run}, imageRecords,
	}
	if cgroups != nil {
		parts = append(parts, part{"cgroups", cgroups.Run})
	}
	if localDrivers != nil {
		parts = append(parts, part{"CSI drivers", localDrivers.Run})
	}
	if node.cpus != nil {
		updater, err := updateCPUs(cfg, node.cpus, client, eyes, store)
		if err != nil {
			return nil, err
		}
		parts = append(parts, updater)
	}
	parts = slices.Concat(parts, evictions, api.parts(), apiParts)
	if cfg.ShowPods {
		a := &announcer{out: out, pods: pods.Pods, changed: statusChanged, node: cfg.NodeName, look: hints(cfg)}
		parts = append(parts, part{"announcer", a.run})
	}
	return append(parts, sources.parts...), nil
}

func maxBackOff(cfg *config.Config) time.Duration {
	if d := cfg.CrashLoopBackOff.MaxContainerRestartPeriod; d != nil {
		return d.Duration
	}
	return 0
}

func readOnlyListen(cfg *config.Config) string {
	if !deref(cfg.EnableServer, true) {
		return ""
	}
	return cfg.ReadOnlyListen()
}

func hints(cfg *config.Config) []string {
	var look []string
	if address := readOnlyListen(cfg); address != "" {
		look = append(look, "bin/mini-kubelet pods --server http://"+address+"   # the pods, as kubectl shows them")
	}
	if cfg.InProcessDockershim() {
		return append(look, "docker ps --filter name=k8s_   # the containers that they are made of")
	}
	return append(look, "bin/mini-kubelet ps --runtime-endpoint "+cfg.RuntimeEndpoint()+"   # their containers")
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
