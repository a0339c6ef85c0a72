package nodeobject

import (
	"context"
	"errors"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
)

// GaugeConfig is what a Gauge is made of; Changed may be nil.
type GaugeConfig struct {
	// Root is the agent's directory, whose file system holds the pods' ephemeral storage.
	Root string
	// MaxPods may run, or PodsPerCore on each CPU if that is fewer and not 0.
	MaxPods, PodsPerCore int64
	// NoLocalStorage leaves ephemeral storage out (localStorageCapacityIsolation: false).
	NoLocalStorage bool
	Reserved       Reserved
	// Period is how often the machine is measured. Nothing tells of memory or huge pages that come and
	// go, and a look costs a few reads of small files.
	Period time.Duration
	// Changed are told when the capacity is a different one, see rough. They must not block.
	Changed []func()
	Clock   clock.WithTicker
}

// Gauge knows what the machine has: at first, and when CPUs, memory, swap or huge pages come or go. A
// stock kubelet has to be restarted for that. Safe for concurrent use.
type Gauge struct {
	cfg     GaugeConfig
	measure func() (Machine, error)
	failing logonce.Error

	mu  sync.Mutex
	now Machine
}

// NewGauge measures the machine. What cannot be measured is missing in its capacity, which keeps the node
// from being ready; an error says that more is reserved than there is.
func NewGauge(cfg GaugeConfig) (*Gauge, error) {
	if cfg.Root == "" || cfg.Period <= 0 || cfg.Clock == nil {
		return nil, errors.New("nodeobject: a Gauge without Root, Period or Clock")
	}
	g := &Gauge{cfg: cfg}
	info := systemInfo()
	g.measure = func() (Machine, error) { return measure(cfg, info) }
	g.look()
	return g, tooMuch(g.now.Capacity, cfg.Reserved)
}

// Machine returns what the machine had when it was last measured. Its lists are not to be changed.
func (g *Gauge) Machine() Machine {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

// Capacity is Machine's.
func (g *Gauge) Capacity() v1.ResourceList { return g.Machine().Capacity }

// Memory is how much there is of it, in bytes.
func (g *Gauge) Memory() int64 {
	list := g.Capacity()
	return list.Memory().Value()
}

// Allocatable is Machine's.
func (g *Gauge) Allocatable() v1.ResourceList { return g.Machine().Allocatable }

// Kept is what of the capacity is kept from pods. Memory that huge pages take is not in it.
func (g *Gauge) Kept() v1.ResourceList { return g.cfg.Reserved.Of(g.Capacity()) }

// Run measures the machine again and again until ctx ends.
func (g *Gauge) Run(ctx context.Context) error {
	tick := g.cfg.Clock.NewTicker(g.cfg.Period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
		}
		was, is, changed := g.look()
		if !changed {
			continue
		}
		klog.InfoS("The machine's capacity has changed", "was", was.Capacity, "is", is.Capacity, "allocatable", is.Allocatable)
		if err := tooMuch(is.Capacity, g.cfg.Reserved); err != nil {
			klog.ErrorS(err, "The machine now has less than what is reserved; pods get nothing of that")
		}
		for _, tell := range g.cfg.Changed {
			tell()
		}
	}
}

// look measures once. What cannot be measured any more is as it was.
func (g *Gauge) look() (was, is Machine, changed bool) {
	is, err := g.measure()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failing.Note(err) {
		klog.ErrorS(err, "Could not measure all of the machine, will try again")
	}
	was = g.now
	for _, name := range required {
		if q, known := was.Capacity[name]; known && err != nil {
			if _, measured := is.Capacity[name]; !measured {
				is.Capacity[name] = q
			}
		}
	}
	is.Allocatable = allocatable(is.Capacity, g.cfg.Reserved)
	if same(was, is) {
		return was, was, false
	}
	g.now = is
	return was, is, true
}

// same reports whether two measurements found as much of everything, or almost.
func same(a, b Machine) bool {
	return equality.Semantic.DeepEqual(rough(a.Capacity, b.Capacity), b.Capacity) && equality.Semantic.DeepEqual(a.Info.Swap, b.Info.Swap)
}

// slack is the part of memory and of ephemeral storage, as 1/slack, that may come or go before anybody is told.
const slack = 100

// rough returns the capacity that was measured before, with what is measured now of what is only a little more or less:
// the size of a file system that shares a pool (ZFS) changes with each file of others, and a balloon driver changes memory by
// pages. The node's status and the limits of cgroups would be written anew with each look.
func rough(was, is v1.ResourceList) v1.ResourceList {
	out := was.DeepCopy()
	for _, name := range []v1.ResourceName{v1.ResourceMemory, v1.ResourceEphemeralStorage} {
		before, known := was[name]
		now, measured := is[name]
		if d := now.Value() - before.Value(); known && measured && max(d, -d) < before.Value()/slack {
			out[name] = now
		}
	}
	return out
}
