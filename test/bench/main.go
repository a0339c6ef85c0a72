// Command bench measures mini-kubelet against what Docker itself can do. In one
// run, against the same daemon and by turns, it takes the floor (bare Docker API
// calls that create and start pause + container pairs, at the best concurrency)
// and the agent (from a manifest written to status Running in /pods), for one pod
// and for many; then what the agent costs while nothing happens.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func main() {
	var opt options
	flag.StringVar(&opt.docker, "docker", "private", "which Docker: private (a daemon of the benchmark's own) or machine (DOCKER_HOST)")
	flag.StringVar(&opt.json, "json", "", "file for the results as JSON")
	flag.IntVar(&opt.single, "single", 15, "repetitions for one pod")
	flag.IntVar(&opt.batches, "batches", 3, "repetitions for many pods")
	flag.IntVar(&opt.pods, "pods", 50, "pods that are many")
	flag.DurationVar(&opt.idle, "idle", time.Minute, "how long the idle agent is watched")
	flag.BoolVar(&opt.growth, "growth", true, "also measure 10 and 100 pods, to see how the cost grows")
	flag.BoolVar(&opt.cri, "cri", true, "also measure the dockershim's calls")
	flag.IntVar(&opt.calls, "calls", 20, "repetitions of a CRI call")
	flag.BoolVar(&opt.cluster, "cluster", true, "also measure the agent as a node of a real control plane")
	flag.IntVar(&opt.evictions, "evictions", 20, "how many hogs of memory are evicted; 0 for none")
	flag.IntVar(&opt.scrapes, "scrapes", 15, "repetitions of a scrape at 100 pods; 0 for none")
	flag.BoolVar(&opt.agent, "agent", true, "measure the agent")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(harness.Main(func() int { return run(ctx, opt) }))
}

type options struct {
	docker  string
	json    string
	single  int
	batches int
	pods    int
	idle    time.Duration
	growth  bool
	cri     bool
	calls   int
	agent   bool
	cluster bool

	evictions int
	scrapes   int
}

// run measures, prints and returns the exit code: 0 also when an aim is missed,
// for a benchmark tells and does not judge.
func run(ctx context.Context, opt options) (code int) {
	b := &bench{ctx: ctx}
	defer func() {
		b.cleanup()
		if r := recover(); r != nil {
			if r != errStopped {
				panic(r)
			}
			code = 1
		}
	}()
	results := &results{}
	d := daemon(b, opt.docker)
	if opt.agent {
		measure(b, d, opt, results)
	}
	if opt.cluster {
		results.Cluster = measureCluster(b, d, opt)
	}
	if opt.cri {
		results.CRI = measureCRI(b, d, opt.calls)
	}
	if opt.evictions > 0 {
		results.Eviction = measureEviction(b, d, opt.evictions)
	}
	if opt.scrapes > 0 {
		results.Scrape = measureScrapes(b, d, 100, opt.scrapes)
	}
	results.print(os.Stdout)
	if opt.json != "" {
		text, err := json.MarshalIndent(results, "", "  ")
		if err == nil {
			err = os.WriteFile(opt.json, append(text, '\n'), 0o644)
		}
		if err != nil {
			b.Fatalf("write the results: %v", err)
		}
	}
	return 0
}

// bench is the harness's T outside of a test: what fails, stops the run.
type bench struct {
	ctx      context.Context
	cleanups []func()
	failed   bool
}

type stopped struct{}

var errStopped = stopped{}

func (b *bench) Helper()                     {}
func (b *bench) Name() string                { return "bench" }
func (b *bench) Failed() bool                { return b.failed }
func (b *bench) Cleanup(f func())            { b.cleanups = append(b.cleanups, f) }
func (b *bench) Context() context.Context    { return b.ctx }
func (b *bench) Logf(f string, args ...any)  { fmt.Fprintf(os.Stderr, f+"\n", args...) }
func (b *bench) Skipf(f string, args ...any) { b.Fatalf(f, args...) }

func (b *bench) Errorf(f string, args ...any) {
	b.failed = true
	b.Logf(f, args...)
}

func (b *bench) Fatalf(f string, args ...any) {
	b.Errorf(f, args...)
	panic(errStopped)
}

func (b *bench) cleanup() {
	for len(b.cleanups) > 0 {
		f := b.cleanups[len(b.cleanups)-1]
		b.cleanups = b.cleanups[:len(b.cleanups)-1]
		f()
	}
}
