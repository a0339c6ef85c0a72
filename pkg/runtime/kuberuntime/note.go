package kuberuntime

import (
	"context"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// nothing reports whether the pod is as it should be.
func (a *actions) nothing() bool {
	return len(a.reset)+len(a.strays)+len(a.kill)+len(a.init)+len(a.start)+len(a.resize)+len(a.ephemeral) == 0 && !a.killPod && !a.createSandbox
}

// plan is what must be done about a pod, for the journal: names and reasons, without the specs.
type plan struct {
	reset, strays         int
	kills                 []string // messages
	killPod, sandbox      bool
	attempt               uint32
	init, start, debugged []string // containers
	resize                int
}

func (a *actions) words() plan {
	p := plan{
		reset: len(a.reset), strays: len(a.strays), killPod: a.killPod, sandbox: a.createSandbox, attempt: a.attempt, resize: len(a.resize),
		init: names(a.init), start: names(a.start), debugged: names(a.ephemeral),
	}
	for _, k := range a.kill {
		p.kills = append(p.kills, k.message)
	}
	return p
}

func names(list []*v1.Container) []string {
	var all []string
	for _, c := range list {
		all = append(all, c.Name)
	}
	return all
}

// String implements fmt.Stringer.
func (p plan) String() string {
	var parts []string
	add := func(condition bool, format string, args ...any) {
		if condition {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(p.reset > 0, "start the pod again from its first container: remove %d", p.reset)
	add(p.strays > 0, "stop %d that somebody else has started", p.strays)
	for _, message := range p.kills {
		add(true, "stop one: %s", message)
	}
	add(p.killPod && !p.sandbox, "stop all that runs")
	add(p.killPod && p.sandbox && p.attempt > 0, "stop what is left of the last sandbox")
	add(p.sandbox, "make a sandbox (attempt %d)", p.attempt)
	add(p.resize > 0, "resize %d", p.resize)
	add(len(p.debugged) > 0, "start ephemeral %s", strings.Join(p.debugged, ", "))
	add(len(p.init) > 0, "start init container %s", strings.Join(p.init, ", "))
	add(len(p.start) > 0, "start %s", strings.Join(p.start, ", "))
	return strings.Join(parts, "; ")
}

// signal is why a container is stopped, for the journal, and how long it has in seconds.
type signal struct {
	why   string
	grace int64
}

// String implements fmt.Stringer.
func (s signal) String() string { return fmt.Sprintf("%s (grace period %d s)", s.why, s.grace) }

// leaveAlone is until when a container, or the sandbox, is left alone.
type leaveAlone struct {
	until   time.Time
	message string
}

// String implements fmt.Stringer.
func (h leaveAlone) String() string {
	text := "not before " + h.until.Format("15:04:05")
	if h.message != "" {
		text += ": " + h.message
	}
	return text
}

// Until returns when it is tried again.
func (h leaveAlone) Until() time.Time { return h.until }

// noteHold notes that a container, or with no name the sandbox, is left alone for a while.
func (p *pass) noteHold(ctx context.Context, container string, w actual.Waiting, wait time.Duration) {
	p.m.cfg.Journal.Note(journal.Within(ctx, journal.Event{
		Kind: journal.Hold, Pod: p.pod.UID, Name: container, Reason: w.Reason, Detail: leaveAlone{p.m.cfg.Clock.Now().Add(wait), w.Message},
	}))
}
