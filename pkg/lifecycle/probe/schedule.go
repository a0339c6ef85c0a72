package probe

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
)

// slack is how late a probe may run, so that probes due at about the same time run
// together: the agent wakes up at most once in that time, however many probes there
// are.
const slack = 50 * time.Millisecond

// Run runs the probes as they fall due until ctx ends, and returns when the last
// run has ended.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-timer.C:
		}
		ready, next := m.take(time.Now())
		for _, p := range ready {
			wg.Go(func() { m.probe(ctx, p) })
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(next), slack))
		}
	}
}

// take returns the probes that are due, which are busy from now on, and when the
// next one is due; the zero time if there is none.
func (m *Manager) take(now time.Time) (ready []*probe, next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ready, next = m.due.Take(now)
	for _, p := range ready {
		p.busy = true
	}
	return ready, next
}

// plan puts a probe into the schedule, or changes when it is due.
func (m *Manager) plan(p *probe, at time.Time) {
	p.due = at
	if p.busy {
		return // it plans itself when it ends
	}
	if m.due.Set(p, at) {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// first returns when a container's probe runs for the first time: after its initial
// delay. For containers that ran before the agent started, probes are spread over
// their period, so that an agent does not run them all at once when it starts.
func first(p *v1.Probe, since, start, now time.Time) time.Time {
	period := periodOf(p)
	at := now
	if since.Before(start) && now.Sub(start) < period {
		at = now.Add(rand.N(period))
	}
	if delayed := since.Add(time.Duration(p.InitialDelaySeconds) * time.Second); delayed.After(at) {
		at = delayed
	}
	return at
}

func periodOf(p *v1.Probe) time.Duration {
	return time.Duration(max(p.PeriodSeconds, 1)) * time.Second
}

// probe runs a probe once, plans its next run and reports what has changed.
func (m *Manager) probe(ctx context.Context, p *probe) {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	pod, s, ok := m.begin(p, cancel)
	if !ok {
		return
	}
	span := m.cfg.Journal.BeginQuiet(&p.noted, journal.Event{Kind: journal.Probe, Pod: pod.UID, Name: p.name})
	defer span.Abandon()
	run = journal.In(run, span)
	err := m.cfg.Gate.Wait(run, gate.Step{Place: gate.Probe, Pod: pod.UID, What: p.name})
	begun := time.Now()
	var a answer
	if err == nil {
		a, err = m.prober.run(run, p.spec, s)
	}
	took := time.Since(begun)
	if ctx.Err() != nil {
		return
	}
	changed, ok := m.note(p, a, took, err)
	if !ok {
		return
	}
	cause := noteRun(span, a, changed, err)
	record := func(reason, message string) {
		recorder := m.cfg.Journal.Container(pod, s.container.Name)
		if changed {
			recorder = recorder.By(span)
		} else {
			recorder = recorder.Again(&p.said)
		}
		recorder.Warn(reason, p.kind.String()+" probe "+message)
	}
	switch {
	case err != nil:
		record("Unhealthy", "errored and resulted in unknown state: "+err.Error())
	case a.result == failure:
		record("Unhealthy", "failed: "+a.text)
	case a.warning:
		record("ProbeWarning", "warning: "+a.text)
	}
	if !changed {
		return
	}
	klog.V(2).InfoS("Probe's verdict changed", "pod", klog.KObj(pod), "podUID", pod.UID, "containerName", s.container.Name, "probe", p.kind.String(), "success", a.result == success)
	select {
	case m.cfg.Changed <- Changed{pod.UID, cause}:
	case <-ctx.Done():
	}
}

// noteRun notes the result of a run, and returns its event if it has consequences. One that changes nothing is one
// event with those before it that ended alike.
func noteRun(span *journal.Span, a answer, changed bool, err error) (cause uint64) {
	if err == nil && a.result == failure {
		err = errors.New(a.text)
	}
	if changed {
		cause = span.Seq()
	}
	span.EndWith(err, func(e *journal.Event) {
		e.Reason = "success"
		switch {
		case a.result == failure:
			e.Reason = "failure"
		case err != nil:
			e.Reason = "unknown"
		}
		if changed {
			e.Detail = journal.Text("the verdict has changed")
		}
	})
	return cause
}

// begin returns what a due probe asks; ok is false when the probe is no longer wanted.
func (m *Manager) begin(p *probe, cancel context.CancelFunc) (pod *v1.Pod, s subject, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.containers[p.of.id] != p.of || !p.wanted() {
		p.busy = false
		return nil, subject{}, false
	}
	p.cancel = cancel
	return p.of.pod, subject{id: p.of.id.ID, container: p.of.spec, host: p.of.host}, true
}

// note takes in the result of a run and plans the next one. changed reports whether
// the probe's verdict has changed; ok is false when nobody needs the result any
// more.
func (m *Manager) note(p *probe, a answer, took time.Duration, err error) (changed, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.busy, p.cancel = false, nil
	c := p.of
	if m.containers[c.id] != c || p.state.hold {
		return false, false
	}
	was := p.state
	if err == nil {
		m.metrics.ran(p, a.result, took)
		p.state = p.state.take(p.kind, p.spec, a.result)
	}
	now := time.Now()
	if p.wanted() {
		next := p.due.Add(periodOf(p.spec))
		if next.Before(now) {
			next = now
		}
		m.plan(p, next)
	}
	if p.kind == startup {
		m.afterStartup(c, was, now)
	}
	return p.state.verdict != was.verdict, true
}

// afterStartup lets the other probes of a container follow its startup probe: they
// begin when it has succeeded.
func (m *Manager) afterStartup(c *container, was state, now time.Time) {
	s := c.probes[startup].state
	for _, k := range []kind{liveness, readiness} {
		p := c.probes[k]
		switch {
		case p == nil:
		case s.verdict == success && s.hold:
			m.plan(p, first(p.spec, c.since, time.Time{}, now))
		case was.assumed && s.verdict != success:
			p.state = begin(k, past{}) // its assumed verdict only held if the container had started
		}
	}
}
