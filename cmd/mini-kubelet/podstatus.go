package main

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// podSummary is what a line of the pods table says about containers.
type podSummary struct {
	status       string
	ready, total int
	restarts     int32
	lastRestart  time.Time
}

// summarise reduces a pod to one status word and its counts by the rules of
// `kubectl get pods`: the first unfinished init container determines the status,
// then the first regular container with something to report, and a deletion
// overrides both.
func summarise(p *v1.Pod) podSummary {
	s := podSummary{status: string(p.Status.Phase), total: len(p.Spec.Containers)}
	if s.status == "" {
		s.status = string(v1.PodPending)
	}
	if p.Status.Reason != "" {
		s.status = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodScheduled && c.Reason == v1.PodReasonSchedulingGated {
			s.status = v1.PodReasonSchedulingGated
		}
	}
	initializing := s.addInit(p)
	if !initializing || conditionTrue(p, v1.PodInitialized) {
		s.addRegular(p, initializing)
	}
	if p.DeletionTimestamp != nil && !pods.IsFinished(p.Status.Phase) {
		s.status = "Terminating"
		if p.Status.Reason == "NodeLost" {
			s.status = string(v1.PodUnknown)
		}
	}
	return s
}

// addInit goes through the init containers in order and reports whether one of them
// is still unfinished.
func (s *podSummary) addInit(p *v1.Pod) (initializing bool) {
	sidecar := map[string]bool{}
	for _, c := range p.Spec.InitContainers {
		if pods.IsSidecar(&c) {
			sidecar[c.Name] = true
			s.total++
		}
	}
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.countRestarts(c)
		switch {
		case initializing:
			continue // only the first one counts
		case sidecar[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
			continue
		case c.State.Terminated != nil:
			s.status = "Init:" + exitWord(c.State.Terminated)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			s.status = "Init:" + c.State.Waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		initializing = true
	}
	return initializing
}

// addRegular goes through the regular containers from last to first, so that the
// first with something to report wins.
func (s *podSummary) addRegular(p *v1.Pod, initializing bool) {
	if !initializing {
		// Restarts of init containers no longer count once they have all succeeded; those
		// of sidecars do.
		s.restarts, s.lastRestart = 0, time.Time{}
		for i := range p.Status.InitContainerStatuses {
			if i < len(p.Spec.InitContainers) && p.Spec.InitContainers[i].RestartPolicy != nil {
				s.countRestarts(&p.Status.InitContainerStatuses[i])
			}
		}
	}
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		s.countRestarts(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = exitWord(c.State.Terminated)
		case c.State.Running != nil && c.Ready:
			running = true
			s.ready++
		}
	}
	if s.status == "Completed" && running {
		s.status = "NotReady"
		if conditionTrue(p, v1.PodReady) {
			s.status = string(v1.PodRunning)
		}
	}
}

func (s *podSummary) countRestarts(c *v1.ContainerStatus) {
	s.restarts += c.RestartCount
	if t := c.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(s.lastRestart) {
		s.lastRestart = t.FinishedAt.Time
	}
}

func exitWord(t *v1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func conditionTrue(p *v1.Pod, kind v1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}
