// Package gate is teaching mode: the agent's steps stop at gates until somebody lets them go on. There is a gate before each
// turn of the sync loop that tells a worker something, each step of a pod's worker, each CRI call of such a step and each run of a probe. What only observes,
// PLEG for example, goes on. Without teaching mode there is no Gate, and a step costs the check for nil.
package gate

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Patience is how long steps are held when nobody does anything: then the gates open by themselves.
const Patience = 10 * time.Minute

// longest is how long one step is held in slow motion.
const longest = 10 * time.Second

// lately is how long after it was held a part is not blamed for being late.
const lately = time.Minute

// Place is where a gate is.
type Place string

// The gates.
const (
	Loop   Place = "loop"
	Worker Place = "worker"
	CRI    Place = "cri"
	Probe  Place = "probe"
)

// Step is what waits at a gate.
type Step struct {
	Place Place     `json:"place"`
	Pod   types.UID `json:"uid,omitempty"` // none: it is about the node
	What  string    `json:"what"`          // in words
}

// Mode is how gates behave.
type Mode string

// The modes.
const (
	Paused  Mode = "paused"  // they are closed
	Running Mode = "running" // they are open
	Slowed  Mode = "slow"    // what lies between two gates takes several times as long
)

// State is what a Gate is at, for people.
type State struct {
	Mode    Mode   `json:"mode"`
	Factor  int    `json:"factor,omitempty"` // of Slowed
	Waiting []Step `json:"waiting"`          // the one that has waited longest first
}

// Config is what a Gate is made of.
type Config struct {
	Journal *journal.Journal // notes what was held; nil: nobody does
	Closed  bool             // the gates are closed at first
}

// Gate is all gates of an agent. A nil Gate is always open. Safe for concurrent use.
type Gate struct {
	cfg Config

	mu      sync.Mutex
	mode    Mode
	factor  int
	credit  bool // Step was called, and nothing has waited yet
	acted   time.Time
	free    map[types.UID]bool // pods whose next step of the worker goes on to its end
	waiting []*waiter
	passed  map[types.UID]time.Time // when each pod's last step has passed, in slow motion
	held    time.Time               // when something was held last
	came    chan struct{}           // closed and replaced when something begins to wait
}

type waiter struct {
	step Step
	open chan struct{}
}

// New returns gates.
func New(cfg Config) *Gate {
	g := &Gate{cfg: cfg, mode: Running, acted: time.Now(), free: map[types.UID]bool{}, passed: map[types.UID]time.Time{}, came: make(chan struct{})}
	if cfg.Closed {
		g.mode = Paused
	}
	return g
}

// Wait holds a step until it may go on, or returns why ctx has ended.
func (g *Gate) Wait(ctx context.Context, s Step) error {
	if g == nil {
		return nil
	}
	begun := time.Now()
	held, err := g.wait(ctx, s)
	if held {
		g.cfg.Journal.Note(journal.Within(ctx, journal.Event{Kind: journal.Gate, Pod: s.Pod, Name: string(s.Place), Reason: s.What, Took: time.Since(begun)}))
	}
	return err
}

func (g *Gate) wait(ctx context.Context, s Step) (held bool, err error) {
	w, rest := g.enter(s)
	switch {
	case w != nil:
		return true, g.hold(ctx, w)
	case rest > 0:
		return true, g.rest(ctx, rest)
	}
	return false, nil
}

// enter decides what becomes of a step: it goes on, waits at a gate, or rests for a while.
func (g *Gate) enter(s Step) (w *waiter, rest time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	switch {
	case g.free[s.Pod] && s.Pod != "":
	case g.mode == Slowed:
		if last, has := g.passed[s.Pod]; has {
			rest = min(time.Duration(g.factor-1)*now.Sub(last), longest)
			g.held = now.Add(rest)
		}
		g.passed[s.Pod] = now.Add(rest)
	case g.mode == Paused && g.credit:
		g.credit = false
	case g.mode == Paused:
		if len(g.waiting) == 0 {
			g.acted = now // nobody has anything to do before
		}
		w = &waiter{step: s, open: make(chan struct{})}
		g.waiting = append(g.waiting, w)
		close(g.came)
		g.came = make(chan struct{})
	}
	return w, rest
}

func (g *Gate) rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hold waits until the gate is opened, by somebody or by itself.
func (g *Gate) hold(ctx context.Context, w *waiter) error {
	for {
		timer := time.NewTimer(g.left())
		select {
		case <-w.open:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			g.leave(w)
			return context.Cause(ctx)
		case <-timer.C:
			g.giveUp()
		}
	}
}

// left returns how long nobody has to do anything until the gates open by themselves.
func (g *Gate) left() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(time.Until(g.acted.Add(Patience)), time.Millisecond)
}

func (g *Gate) giveUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mode == Paused && time.Since(g.acted) >= Patience {
		klog.InfoS("Nobody has opened a gate for long: the agent goes on by itself", "patience", Patience, "waiting", len(g.waiting))
		g.run()
	}
}

func (g *Gate) leave(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(o *waiter) bool { return o == w })
	g.held = time.Now()
}

// open lets those go on that are chosen.
func (g *Gate) open(chosen func(Step) bool) {
	g.waiting = slices.DeleteFunc(g.waiting, func(w *waiter) bool {
		if !chosen(w.step) {
			return false
		}
		close(w.open)
		g.held = time.Now()
		return true
	})
}

func (g *Gate) run() {
	g.mode, g.credit = Running, false
	clear(g.free)
	g.open(func(Step) bool { return true })
}

// Pause closes the gates.
func (g *Gate) Pause() { g.do(func() { g.mode, g.credit = Paused, false }) }

// Run opens the gates.
func (g *Gate) Run() { g.do(g.run) }

// Slow opens the gates, but holds each step so that what took a second takes that many; factor is at least 2.
func (g *Gate) Slow(factor int) {
	g.do(func() {
		g.run()
		g.mode, g.factor = Slowed, max(factor, 2)
		clear(g.passed)
	})
}

// Step lets one step go on: the one that has waited longest or, if none does, the next that comes.
func (g *Gate) Step() {
	g.do(func() {
		g.mode = Paused
		g.credit = len(g.waiting) == 0
		first := true
		g.open(func(Step) bool { was := first; first = false; return was })
	})
}

// Next lets a pod's worker go on to the end of its step, or of its next one.
func (g *Gate) Next(pod types.UID) {
	g.do(func() {
		g.mode = Paused
		g.free[pod] = true
		g.open(func(s Step) bool { return s.Pod == pod })
	})
}

func (g *Gate) do(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acted = time.Now()
	change()
}

// Done says that a step of a pod's worker is over.
func (g *Gate) Done(pod types.UID) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.free, pod)
}

// Forget says that a pod is gone.
func (g *Gate) Forget(pod types.UID) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.free, pod)
	delete(g.passed, pod)
}

// Holds reports whether something waits at a gate or did lately: who is late then is not ill.
func (g *Gate) Holds() bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting) > 0 || time.Since(g.held) < lately
}

// State returns what the gates are at.
func (g *Gate) State() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := State{Mode: g.mode, Waiting: []Step{}}
	if g.mode == Slowed {
		s.Factor = g.factor
	}
	for _, w := range g.waiting {
		s.Waiting = append(s.Waiting, w.step)
	}
	return s
}

// Settle waits until something waits at a closed gate, but not for long: then State shows what a step has led to.
func (g *Gate) Settle(ctx context.Context, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	g.mu.Lock()
	came, settled := g.came, g.mode != Paused || len(g.waiting) > 0
	g.mu.Unlock()
	if settled {
		return
	}
	select {
	case <-came:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// maxFactor is the slowest motion.
const maxFactor = 1000

// Do does what a person says: pause, run, step, next (with a pod) or slow (with a factor).
func (g *Gate) Do(what string, pod types.UID, factor int) error {
	switch what {
	case "pause":
		g.Pause()
	case "run":
		g.Run()
	case "step":
		g.Step()
	case "next":
		if pod == "" {
			return fmt.Errorf("next: which pod?")
		}
		g.Next(pod)
	case "slow":
		if factor < 2 || factor > maxFactor {
			return fmt.Errorf("slow: the factor is %d, and must be from 2 to %d", factor, maxFactor)
		}
		g.Slow(factor)
	default:
		return fmt.Errorf("%q is none of pause, run, step, next, slow", what)
	}
	return nil
}
