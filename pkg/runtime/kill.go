package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/criconfig"
)

// Grace periods in seconds: the least that a container is given, and what the API
// server gives a pod that asks for none.
const (
	minGrace     = 2
	defaultGrace = 30
)

// KillPod stops the running containers of a pod, the regular ones at once and
// then the sidecars from last to first, and then its sandboxes. pod is nil for an
// orphan, whose grace period is read from its containers. grace, in seconds,
// overrides the pod's own. Cancelling ctx abandons the wait; a later call with a
// shorter grace takes over.
func (m *Manager) KillPod(ctx context.Context, pod *v1.Pod, running *Pod, grace *int64) error {
	if running == nil {
		return nil
	}
	var regular []Container
	sidecars := map[string]Container{}
	for _, c := range running.Containers {
		if c.State != StateRunning && c.State != StateUnknown {
			continue
		}
		if pod != nil && slices.ContainsFunc(pod.Spec.InitContainers, func(i v1.Container) bool { return i.Name == c.Name && IsSidecar(&i) }) {
			sidecars[c.Name] = c
			continue
		}
		regular = append(regular, c)
	}
	stop := func(c Container) error {
		seconds := grace
		if pod == nil && grace == nil {
			recorded, err := m.recorded(ctx, c.ID)
			if err != nil {
				return err
			}
			seconds = recorded
		}
		return m.stopContainer(ctx, pod, c.Name, c.ID, "", gracePeriod(pod, seconds))
	}
	errs := make([]error, len(regular))
	var wg sync.WaitGroup
	for i, c := range regular {
		wg.Go(func() { errs[i] = stop(c) })
	}
	wg.Wait()
	if pod != nil {
		for _, i := range slices.Backward(pod.Spec.InitContainers) {
			if c, ok := sidecars[i.Name]; ok {
				errs = append(errs, stop(c))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, s := range running.Sandboxes {
		if s.State == StateExited {
			continue
		}
		if _, err := m.cfg.CRI.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: s.ID}); err != nil && !isNotFound(err) {
			if ctx.Err() == nil {
				m.cfg.Journal.Record(pod, "", v1.EventTypeWarning, "FailedKillPod", "error killing pod: "+text(err))
			}
			return fmt.Errorf("stop sandbox %s: %w", s.ID, err)
		}
	}
	return nil
}

// gracePeriod is how long a container of the pod may take to end, in seconds:
// what overrides, else the deletion's, else the pod's own.
func gracePeriod(pod *v1.Pod, override *int64) int64 {
	seconds := int64(defaultGrace)
	switch {
	case override != nil:
		seconds = *override
	case pod == nil:
	case pod.DeletionGracePeriodSeconds != nil:
		seconds = *pod.DeletionGracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	return max(seconds, minGrace)
}

// recorded reads the grace period that a container was made with; nil when it is gone.
func (m *Manager) recorded(ctx context.Context, id string) (*int64, error) {
	r, err := m.cfg.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inspect container %s before stopping it: %w", id, err)
	}
	rec, _ := criconfig.ReadAnnotations(r.GetStatus().GetAnnotations())
	if rec.DeletionGracePeriod != nil {
		return rec.DeletionGracePeriod, nil
	}
	return rec.TerminationGracePeriod, nil
}

func (m *Manager) stopContainer(ctx context.Context, pod *v1.Pod, name, id, message string, grace int64) error {
	if message == "" {
		message = "Stopping container " + name
	}
	m.cfg.Journal.Record(pod, name, v1.EventTypeNormal, "Killing", message)
	klog.V(4).InfoS("Stopping container", "containerName", name, "containerID", id, "gracePeriodSeconds", grace)
	if _, err := m.cfg.CRI.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: grace}); err != nil && !isNotFound(err) {
		return fmt.Errorf("stop container %s: %w", name, err)
	}
	return nil
}

// Pod is the listed form of a status: its sandboxes and containers with their states.
func (s *PodStatus) Pod() *Pod {
	if s == nil {
		return nil
	}
	p := &Pod{UID: s.UID, Name: s.Name, Namespace: s.Namespace}
	for _, sb := range s.Sandboxes {
		p.Sandboxes = append(p.Sandboxes, Sandbox{ID: sb.Id, Attempt: sb.GetMetadata().GetAttempt(), State: sandboxState(sb.State), CreatedAt: instant(sb.CreatedAt)})
	}
	for _, c := range s.Containers {
		p.Containers = append(p.Containers, Container{ID: c.ID.ID, Name: c.Name, SandboxID: c.SandboxID, State: c.State, CreatedAt: c.CreatedAt})
	}
	return p
}
