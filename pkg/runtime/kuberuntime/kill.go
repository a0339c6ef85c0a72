package kuberuntime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Grace periods in seconds: the least that a container is given, what the API server
// gives a pod that asks for none, and the most, 68 years: the API server accepts any
// number, but not every number is a valid duration, or one that runtimes can count
// to.
const (
	minGrace     = 2
	defaultGrace = 30
	maxGrace     = math.MaxInt32
)

// KillPod stops the running containers of a pod and then its sandboxes. All
// preStop hooks run at once; sidecars get their signal after the regular
// containers have ended, from last to first. pod is nil for an orphan: its
// containers' annotations say how to stop them. grace, in seconds, overrides the
// pod's own. Cancelling ctx abandons the wait; a later call with a shorter grace
// takes over.
func (m *Manager) KillPod(ctx context.Context, pod *v1.Pod, running *actual.Pod, grace *int64) error {
	if running == nil {
		return nil
	}
	err := m.killPod(ctx, pod, running, grace)
	if err != nil && ctx.Err() == nil {
		m.cfg.Journal.Warn(pod, "FailedKillPod", "error killing pod: "+text(err))
	}
	return err
}

func (m *Manager) killPod(ctx context.Context, pod *v1.Pod, running *actual.Pod, grace *int64) error {
	var stops []*stop
	for _, c := range running.Containers {
		if c.State != actual.StateRunning && c.State != actual.StateUnknown {
			continue
		}
		spec, _ := pods.Container(pod, c.Name)
		s := &stop{pod: pod, spec: spec, id: c.ID, name: c.Name, ended: make(chan struct{})}
		if s.spec == nil {
			var err error
			if s.pod, s.spec, err = m.restore(ctx, running, c); err != nil {
				return err
			}
		}
		s.grace = gracePeriod(s.pod, grace)
		stops = append(stops, s)
	}
	order(pod, stops)
	errs := make([]error, len(stops))
	var wg sync.WaitGroup
	for i, s := range stops {
		wg.Go(func() { errs[i] = recovery.Call(func() error { return m.stop(ctx, s) }) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// Those that are not ready too: they may hold an address and ports of the host, which the next
	// sandbox needs, until they are stopped.
	for _, s := range running.Sandboxes {
		if _, err := m.cfg.CRI.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: s.ID}); err != nil && !isNotFound(err) {
			return fmt.Errorf("stop sandbox %s: %w", s.ID, err)
		}
	}
	return nil
}

// gracePeriod returns how many seconds a container of the pod may take to end, its
// preStop hook included: the override, else the deletion's grace period, else the
// pod's own.
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
	return min(seconds, maxGrace)
}

// restore rebuilds as much of an orphan's pod and container as is needed to stop
// it, from the container's annotations.
func (m *Manager) restore(ctx context.Context, running *actual.Pod, c actual.Container) (*v1.Pod, *v1.Container, error) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: running.UID, Name: running.Name, Namespace: running.Namespace}}
	spec := &v1.Container{Name: c.Name}
	r, err := m.cfg.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.ID})
	if isNotFound(err) {
		return pod, spec, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("inspect container %s before stopping it: %w", c.ID, err)
	}
	// What cannot be read back is left out: somebody has tampered with it.
	rec, _ := pods.ReadAnnotations(r.GetStatus().GetAnnotations())
	pod.DeletionGracePeriodSeconds = rec.DeletionGracePeriod
	pod.Spec.TerminationGracePeriodSeconds = rec.TerminationGracePeriod
	spec.Ports = rec.Ports
	if rec.PreStop != nil {
		spec.Lifecycle = &v1.Lifecycle{PreStop: rec.PreStop}
	}
	return pod, spec, nil
}
