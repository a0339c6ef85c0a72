package agent

import (
	"context"
	"fmt"
	"io"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// announcer says in plain words, for a person at a terminal, what runs.
type announcer struct {
	out     io.Writer
	pods    func() []*v1.Pod // with their statuses, in order
	changed <-chan struct{}
	node    string
	look    []string // commands to look further, printed once when all pods have come up
}

// settleAfter is when the commands to look further are printed even if some pod is
// still pending.
const settleAfter = 20 * time.Second

// run prints a line for each pod whose state changes, until ctx ends.
func (a *announcer) run(ctx context.Context) error {
	fmt.Fprintf(a.out, "mini-kubelet runs the pods of node %s. Ctrl-C stops it and leaves them running.\n", a.node)
	said := map[types.UID]string{}
	names := map[types.UID]string{}
	hinted := false
	late := time.NewTimer(settleAfter)
	defer late.Stop()
	for {
		pods := a.pods()
		seen := map[types.UID]bool{}
		for _, p := range pods {
			seen[p.UID] = true
			line := describe(p)
			if said[p.UID] == line {
				continue
			}
			said[p.UID], names[p.UID] = line, p.Namespace+"/"+p.Name
			fmt.Fprintf(a.out, "pod %s is %s\n", names[p.UID], line)
		}
		for uid := range said {
			if !seen[uid] {
				fmt.Fprintf(a.out, "pod %s is gone\n", names[uid])
				delete(said, uid)
				delete(names, uid)
			}
		}
		if !hinted && settled(pods) {
			hinted = true
			a.hint()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.changed:
		case <-late.C:
			if !hinted {
				hinted = true
				a.hint()
			}
		}
	}
}

func (a *announcer) hint() {
	fmt.Fprintln(a.out, "To look further, in another terminal:")
	for _, c := range a.look {
		fmt.Fprintf(a.out, "  %s\n", c)
	}
}

// settled reports whether there are pods and none of them is on its way up.
func settled(shown []*v1.Pod) bool {
	for _, p := range shown {
		if p.Status.Phase != v1.PodRunning && !pods.IsFinished(p.Status.Phase) {
			return false
		}
	}
	return len(shown) > 0
}

// describe returns a pod's state in a few words: phase, address, readiness and, if
// a container waits, why.
func describe(p *v1.Pod) string {
	phase := p.Status.Phase
	if phase == "" {
		phase = v1.PodPending
	}
	s := string(phase)
	if p.Status.PodIP != "" {
		s += ", IP " + p.Status.PodIP
	}
	ready := 0
	why := ""
	for _, c := range p.Status.ContainerStatuses {
		if c.Ready {
			ready++
		}
		if w := c.State.Waiting; w != nil && why == "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			why = fmt.Sprintf(", container %s waits: %s", c.Name, w.Reason)
		}
	}
	if phase == v1.PodRunning {
		s += fmt.Sprintf(", %d of %d containers ready", ready, len(p.Spec.Containers))
	}
	if p.Status.Reason != "" {
		s += fmt.Sprintf(" (%s: %s)", p.Status.Reason, p.Status.Message)
	}
	return bounds.Line(s + why)
}
