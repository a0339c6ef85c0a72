package agent

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/recent"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/loop"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstart"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// foundation is what every stage builds on. Nothing in it is set after it is made.
type foundation struct {
	cfg    *config.Config
	client *criclient.Client
	engine engine
	tools

	store    *podstore.Store
	statuses *podstatus.Manager
	starts   *podstart.Tracker
	wakeups  *loop.Wakeups
	journal  *journal.Journal
	recent   *recent.Sink // the last events, of pods and of the node
	// nodeEvent records an event about the node.
	nodeEvent journal.NodeEvent
	// nodeChanged has a token when the node's readiness may have changed.
	nodeChanged chan struct{}
}

// tools are what every part is watched by.
type tools struct {
	metrics *prometheus.Registry
	traces  trace.TracerProvider // nil: nothing is traced
	record  *journal.Journal     // what happens; without sinks
	gate    *gate.Gate           // of teaching mode; nil: it is off
	pulls   *image.Progress      // how far pulls are, by an own dockershim
}

// readinessChanged has the node's status looked at.
func (f *foundation) readinessChanged() {
	select {
	case f.nodeChanged <- struct{}{}:
	default: // it has not taken in the last one yet
	}
}

// logDir is where the logs of a pod's containers are.
func (f *foundation) logDir(pod *v1.Pod) string {
	return pods.PodLogDirectory(f.cfg.PodLogsDir, pod.Namespace, pod.Name, pod.UID)
}

// owns reports whether a pod's directory is the agent's.
func (f *foundation) owns(uid types.UID) bool { return volume.Owns(f.cfg.RootDir, uid) }

// assemble makes all parts, stage by stage. To add a part, make it in its stage and put it
// into that stage's list.
func assemble(ctx context.Context, cfg *config.Config, client *criclient.Client, engine engine, tools tools, out io.Writer) ([]part, error) {
	world, err := newWorld(cfg, tools)
	if err != nil {
		return nil, err
	}
	parts, err := build(ctx, cfg, client, engine, tools, world, out)
	if err != nil {
		world.setupFailed(ctx, err)
	}
	return parts, err
}

// build is assemble in a world.
func build(ctx context.Context, cfg *config.Config, client *criclient.Client, engine engine, tools tools, world world, out io.Writer) ([]part, error) {
	statuses, err := podstatus.NewManager(tools.metrics)
	if err != nil {
		return nil, err
	}
	starts, err := podstart.New(tools.metrics, clock.RealClock{})
	if err != nil {
		return nil, err
	}
	store := podstore.New()
	if err := podstore.Export(store, tools.metrics); err != nil {
		return nil, err
	}
	events := recent.New(recent.Config{Node: cfg.NodeName, Now: time.Now, File: world.eventsFile(cfg)})
	f := &foundation{
		cfg: cfg, client: client, engine: engine, tools: tools, recent: events,
		store: store, statuses: statuses, starts: starts, wakeups: loop.NewWakeups(),
		journal: tools.record.WithSinks(append(world.sinks(), events)...), nodeEvent: journal.Both(events.Node, world.nodeEvent()), nodeChanged: make(chan struct{}, 1),
	}
	tellCgroupV1(f.nodeEvent)
	host, err := newHost(ctx, f, world)
	if err != nil {
		return nil, err
	}
	supplies, err := world.supplies(f, host)
	if err != nil {
		return nil, err
	}
	plugins, err := newPlugins(f, host, supplies)
	if err != nil {
		return nil, err
	}
	runtime, err := newRuntime(f, host, supplies)
	if err != nil {
		return nil, err
	}
	life, err := newLife(f, host, supplies, runtime)
	if err != nil {
		return nil, err
	}
	reporters, err := world.reporters(f, host, runtime, life)
	if err != nil {
		return nil, err
	}
	front, err := newFront(f, host, supplies, runtime, life, world, out)
	if err != nil {
		return nil, err
	}
	own := []part{plugins, {"configuration", func(ctx context.Context) error { return watchConfiguration(ctx, cfg) }}}
	return slices.Concat(own, host.parts, supplies.parts, runtime.parts, life.parts, reporters, front), nil
}

// stateDir returns where a part of the agent keeps its own state.
func stateDir(cfg *config.Config, name string) string {
	return filepath.Join(cfg.RootDir, "mini-kubelet", name)
}
