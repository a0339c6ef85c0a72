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
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/cri"
	"github.com/mini-kubelet/mini-kubelet/pkg/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/image"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/loop"
	"github.com/mini-kubelet/mini-kubelet/pkg/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/pkg/status"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
	"github.com/mini-kubelet/mini-kubelet/pkg/worker"
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
	if cfg.InProcessDockershim() {
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

	client, err := cri.New(cri.Config{
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

	parts, err := compose(cfg, client, version.RuntimeName, metrics, out)
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

// compose makes the parts and wires them to each other.
func compose(cfg *config.Config, client *cri.Client, runtimeName string, metrics *prometheus.Registry, out io.Writer) ([]part, error) {
	node, err := newNode(cfg)
	if err != nil {
		return nil, err
	}
	events := journal.New(time.Now, journal.LogSink{})
	node.Warn = func(pod *v1.Pod, reason, message string) {
		if cfg.Standalone() && reason == criconfig.ReasonMissingClusterDNS {
			return // there is no cluster whose DNS could be missing
		}
		events.Record(pod, "", v1.EventTypeWarning, reason, message)
	}
	statuses := status.NewManager()
	statusChanged := statuses.Changed()
	store := podstore.New()

	volumes, err := volume.New(volume.Config{Root: cfg.RootDir, Allocatable: func() v1.ResourceList { return node.Allocatable }})
	if err != nil {
		return nil, err
	}
	images, err := image.New(image.Config{
		Images: client, Journal: events,
		Serialize: *cfg.SerializeImagePulls, MaxParallel: int(deref(cfg.MaxParallelImagePulls, 0)),
		QPS: float32(deref(cfg.RegistryPullQPS, 0)), Burst: int(cfg.RegistryBurst),
	})
	if err != nil {
		return nil, err
	}
	rt, err := runtime.New(runtime.Config{
		CRI: client, Images: images, Files: volumes, Node: node.Node, Clock: clock.RealClock{},
		Name: runtimeName, MaxBackOff: maxBackOff(cfg), Journal: events,
	})
	if err != nil {
		return nil, err
	}
	eyes, err := pleg.New(pleg.Config{Runtime: rt, LookTimeout: cfg.RuntimeRequestTimeout.Duration, Metrics: metrics})
	if err != nil {
		return nil, err
	}
	workers, err := worker.New(worker.Config{
		Cache: eyes, Runtime: rt, Volumes: volumes, Statuses: statuses, Clock: clock.RealClock{}, Journal: events,
		SyncFrequency: cfg.SyncFrequency.Duration, HostIPs: func() []string { return node.HostIPs },
	})
	if err != nil {
		return nil, err
	}
	sources, err := newSources(cfg)
	if err != nil {
		return nil, err
	}
	syncLoop, err := loop.New(loop.Config{
		Sources: sources.names, Changes: sources.mux.Changes(), Events: eyes.Events(), Store: store,
		Workers: workers, Runtime: eyes, Clock: clock.RealClock{},
		Admit: node.admit,
		Reject: func(pod *v1.Pod, r loop.Rejection) {
			events.Record(pod, "", v1.EventTypeWarning, r.Reason, r.Message)
			statuses.Set(pod, rejected(pod, r))
		},
		CleanDirs: volumes.Orphans,
	})
	if err != nil {
		return nil, err
	}
	pods := view{store, statuses}
	front, err := server.New(server.Config{
		HealthzListen: cfg.HealthzListen(), ReadOnlyListen: readOnlyListen(cfg), Pods: pods, Metrics: metrics,
		Checks: []server.Check{
			{Name: "pleg", Check: func(context.Context) error { return eyes.Healthy(time.Now()) }},
			{Name: "syncloop", Check: func(context.Context) error { return syncLoop.Healthy(time.Now()) }},
		},
	})
	if err != nil {
		return nil, err
	}
	collector := garbageCollector{
		runtime: rt, wanted: func(uid types.UID) bool { return syncLoop.MayBeWanted(uid) },
		policy: runtime.Policy{MinAge: cfg.MinimumContainerTTL, PerContainer: int(cfg.MaxDeadPerContainer), Total: int(cfg.MaxDeadContainers)},
	}
	parts := []part{
		{"pleg", eyes.Run}, {"workers", workers.Run}, {"sync loop", syncLoop.Run}, {"server", front.Run},
		{"garbage collection", collector.run},
	}
	if cfg.ShowPods {
		a := &announcer{out: out, pods: pods.Pods, changed: statusChanged, node: cfg.NodeName, look: hints(cfg)}
		parts = append(parts, part{"announcer", a.run})
	}
	return append(parts, sources.parts...), nil
}

// setUpProcess does what the configuration says of the agent's own process.
func setUpProcess(cfg *config.Config) error {
	if deref(cfg.FailCgroupV1, false) {
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); errors.Is(err, os.ErrNotExist) {
			return errors.New("failCgroupV1: this host has cgroup v1")
		}
	}
	setOOMScoreAdj(deref(cfg.OOMScoreAdj, -999))
	return setMaxOpenFiles(uint64(cfg.MaxOpenFiles))
}

// newNode is what the pods' configurations take from this node.
func newNode(cfg *config.Config) (*node, error) {
	n := &node{
		Node: criconfig.Node{
			Name: cfg.NodeName, HostIPs: cfg.NodeIPs, PodLogsRoot: cfg.PodLogsDir,
			ClusterDomain: cfg.ClusterDomain, ClusterDNS: cfg.ClusterDNS,
		},
	}
	if len(n.HostIPs) == 0 {
		n.HostIPs = hostIPs()
	}
	if path := deref(cfg.ResolverConfig, ""); path != "" {
		n.ResolvConf = criconfig.ResolvConfFile(path)
	}
	if err := n.measure(cfg); err != nil {
		return nil, err
	}
	return n, nil
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

// sources are the places where pods come from, and the mux that merges them.
type sources struct {
	mux   *source.Mux
	names []string
	parts []part
}

func newSources(cfg *config.Config) (*sources, error) {
	mux, err := source.NewMux(source.MuxConfig{})
	if err != nil {
		return nil, err
	}
	s := &sources{mux: mux}
	snapshots := make(chan source.Snapshot)
	s.parts = append(s.parts, part{"mux", func(ctx context.Context) error { return mux.Run(ctx, snapshots) }})
	if cfg.StaticPodPath != "" {
		f, err := source.NewFile(source.FileConfig{
			Path: cfg.StaticPodPath, NodeName: cfg.NodeName, Period: cfg.FileCheckFrequency.Duration, StateDir: stateDir(cfg, "manifests-file"),
		})
		if err != nil {
			return nil, err
		}
		s.names = append(s.names, source.File)
		s.parts = append(s.parts, part{"file source", func(ctx context.Context) error { return f.Run(ctx, snapshots) }})
	}
	if cfg.StaticPodURL != "" {
		h, err := source.NewHTTP(source.HTTPConfig{
			URL: cfg.StaticPodURL, Header: cfg.StaticPodURLHeader, NodeName: cfg.NodeName,
			Period: cfg.HTTPCheckFrequency.Duration, StateDir: stateDir(cfg, "manifests-http"),
		})
		if err != nil {
			return nil, err
		}
		s.names = append(s.names, source.HTTP)
		s.parts = append(s.parts, part{"URL source", func(ctx context.Context) error { return h.Run(ctx, snapshots) }})
	}
	if len(s.names) == 0 {
		return nil, errors.New("nothing says which pods to run: set --pod-manifest-path or --manifest-url")
	}
	return s, nil
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
