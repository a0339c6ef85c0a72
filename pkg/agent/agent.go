// Package agent is the composition root: it builds every part from the configuration,
// runs them, and stops them in order. It decides nothing, and is the only package that
// knows all the others. It builds in stages, each from those before it (assemble.go):
//
//	world    who is around the node: nobody (standalone.go) or a cluster (cluster.go)
//	host     what this machine offers: capacity, CPUs, cgroups, addresses
//	supplies what pods take from the world: objects, claims, drivers, services
//	runtime  one pod to CRI: images, volumes, probes, PLEG
//	life     what becomes of pods: sources, sync loop, workers, eviction
//	front    who may look: HTTP servers, the announcer
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image"
)

// runtimeWait is how long the agent waits for a runtime to answer before it gives
// up: its supervisor then starts it again.
const runtimeWait = 30 * time.Second

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

// Run runs the agent until ctx ends or a part fails. It stops no container. out is
// where the agent speaks to a person, with --show-pods.
func Run(ctx context.Context, cfg *config.Config, out io.Writer) error {
	unlock, err := lock(ctx, cfg.RootDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := setUpProcess(cfg); err != nil {
		return err
	}
	traces, flush, err := newTracing(ctx, cfg)
	if err != nil {
		return err
	}
	defer flush()
	group, ctx := errgroup.WithContext(ctx)
	contended, releaseFile, err := lockFile(ctx, cfg.LockFile, cfg.ExitOnLockContention)
	if err != nil {
		return err
	}
	defer releaseFile()
	group.Go(func() error { return contended(ctx) })
	record, pulls := journal.New(time.Now), &image.Progress{}
	if ownDockershim(cfg) {
		shim, err := newDockershim(ctx, cfg, &engineCalls{journal: record, pulls: pulls})
		if err != nil {
			return err
		}
		group.Go(func() error { return shim.Run(ctx) })
	}
	err = start(ctx, group, cfg, tools{metrics: prometheus.NewRegistry(), traces: traces, record: record, gate: newGate(cfg, record), pulls: pulls}, out)
	if err != nil {
		// Stop what already runs; if that has failed, its error is the cause.
		group.Go(func() error { return err })
	}
	err = group.Wait()
	if errors.Is(err, errContended) { // which is no failure, as with the kubelet
		klog.InfoS("Ending", "reason", err)
		return nil
	}
	return err
}

// newGate returns the gates of teaching mode, closed; nil if it is off.
func newGate(cfg *config.Config, record *journal.Journal) *gate.Gate {
	if !cfg.Teach {
		return nil
	}
	klog.InfoS("Teaching mode: each step waits until it is let go on, by mini-kubelet teach or on the page of mini-kubelet ui", "opensAfter", gate.Patience)
	return gate.New(gate.Config{Journal: record, Closed: true})
}

// start builds the parts above CRI and lets the group run them.
func start(ctx context.Context, group *errgroup.Group, cfg *config.Config, tools tools, out io.Writer) error {
	tools.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	client, err := criclient.New(criclient.Config{
		Endpoint: cfg.RuntimeEndpoint(), ImageEndpoint: cfg.ImageEndpoint(),
		Timeout: cfg.RuntimeRequestTimeout.Duration, Metrics: tools.metrics, Traces: tools.traces, Journal: tools.record, Gate: tools.gate,
	})
	if err != nil {
		return err
	}
	group.Go(func() error {
		<-ctx.Done()
		return client.Close()
	})
	engine, err := waitForEngine(journal.In(ctx, tools.record.Root("start")), cfg, client)
	if err != nil {
		return err
	}
	parts, err := assemble(ctx, cfg, client, engine, tools, out)
	if err != nil {
		return err
	}
	for _, p := range parts {
		group.Go(func() error {
			if err := p.run(journal.In(ctx, tools.record.Root(p.name))); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	return nil
}
