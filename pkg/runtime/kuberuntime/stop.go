package kuberuntime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/hooks"
)

// stop is a container that is being stopped.
type stop struct {
	pod      *v1.Pod
	spec     *v1.Container
	id, name string
	message  string // why, for the event; "" where there is nothing to say
	grace    int64  // seconds for the hook, the wait and the signal together
	after    []*stop
	ended    chan struct{} // closed when stopping it is over; nil when nobody waits for that
}

// order makes sidecars wait: each for the regular containers and for the sidecars
// after it (KEP-753). All other containers wait for nobody.
func order(pod *v1.Pod, stops []*stop) {
	if pod == nil {
		return
	}
	place := map[string]int{} // sidecars by their position, regular containers after them
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; pods.IsSidecar(c) {
			place[c.Name] = i
		}
	}
	for i := range pod.Spec.Containers {
		place[pod.Spec.Containers[i].Name] = len(pod.Spec.InitContainers)
	}
	for _, s := range stops {
		at, known := place[s.name]
		for _, other := range stops {
			if p, ok := place[other.name]; known && ok && p > at {
				s.after = append(s.after, other)
			}
		}
	}
}

// stopContainer stops one container of a pod that goes on; grace is in seconds.
func (m *Manager) stopContainer(ctx context.Context, pod *v1.Pod, name, id, message string, grace int64) error {
	spec, _ := pods.Container(pod, name)
	if spec == nil {
		spec = &v1.Container{Name: name}
	}
	return m.stop(ctx, &stop{pod: pod, spec: spec, id: id, name: name, message: message, grace: grace})
}

// stopStray stops an earlier attempt of a container that runs beside a later one. Its preStop hook is
// not run: it could end the later one, with which it shares the pod's network.
func (m *Manager) stopStray(ctx context.Context, pod *v1.Pod, s *actual.ContainerStatus) error {
	klog.InfoS("Stopping a container that was started again by somebody else", "pod", klog.KObj(pod), "podUID", pod.UID, "containerName", s.Name, "containerID", s.ID)
	return m.stop(ctx, &stop{
		pod: pod, spec: &v1.Container{Name: s.Name}, id: s.ID.ID, name: s.Name, grace: gracePeriod(pod, nil),
		message: fmt.Sprintf("Container %s was started again by somebody else, though a later attempt of it exists; stopping it", s.Name),
	})
}

// stop runs the container's preStop hook, waits for its turn and lets the runtime
// stop it. All three share the grace period; at least minGrace is left for the
// last, so that a container is not killed without its signal.
func (m *Manager) stop(ctx context.Context, s *stop) (err error) {
	if s.ended != nil {
		defer close(s.ended)
	}
	message := s.message
	if message == "" {
		message = "Stopping container " + s.name
	}
	e := journal.Event{Kind: journal.Signal, Name: s.name, Detail: signal{message, s.grace}}
	if s.pod != nil {
		e.Pod = s.pod.UID
	}
	span := m.cfg.Journal.Begin(journal.Within(ctx, e))
	defer func() { span.End(err) }()
	ctx = journal.In(ctx, span)
	m.cfg.Journal.Container(s.pod, s.name).By(span).Normal("Killing", message)
	begun := m.cfg.Clock.Now()
	if s.grace > 0 {
		left, cancel := context.WithTimeout(ctx, time.Duration(s.grace)*time.Second)
		m.preStop(left, s)
		waitFor(left, s.after)
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("stop container %s: %w", s.name, context.Cause(ctx))
		}
	}
	// The time used is rounded down, as the kubelet does.
	grace := max(s.grace-int64(m.cfg.Clock.Since(begun)/time.Second), minGrace)
	klog.V(4).InfoS("Stopping container", "containerName", s.name, "containerID", s.id, "gracePeriodSeconds", grace)
	if _, err := m.cfg.CRI.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: s.id, Timeout: grace}); err != nil && !isNotFound(err) {
		return fmt.Errorf("stop container %s: %w", s.name, err)
	}
	return nil
}

func waitFor(ctx context.Context, others []*stop) {
	for _, o := range others {
		select {
		case <-o.ended:
		case <-ctx.Done():
			return
		}
	}
}

// preStop runs the hook of a running container, until ctx ends. A failure does not
// keep the container from being stopped.
func (m *Manager) preStop(ctx context.Context, s *stop) {
	if s.spec.Lifecycle == nil || s.spec.Lifecycle.PreStop == nil {
		return
	}
	r, err := m.cfg.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: s.id})
	if err == nil && r.GetStatus().GetState() != cri.ContainerState_CONTAINER_RUNNING || isNotFound(err) {
		return
	}
	if err == nil {
		err = m.hooks.Run(ctx, m.hookTarget(s.pod, s.spec, s.id, nil), s.spec.Lifecycle.PreStop)
	}
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	klog.V(2).InfoS("PreStop hook failed", "pod", klog.KObj(s.pod), "podUID", s.pod.UID, "containerName", s.name, "containerID", s.id, "err", err)
	// The event does not say how: an answer may hold secrets.
	m.cfg.Journal.Container(s.pod, s.name).By(journal.Of(ctx)).Warn("FailedPreStopHook", "PreStopHook failed")
}

// hookTarget returns a container as its hooks see it. Without ips the runtime is
// asked for the pod's address when a hook needs it.
func (m *Manager) hookTarget(pod *v1.Pod, c *v1.Container, id string, ips []string) hooks.Target {
	return hooks.Target{
		ContainerID: id,
		Container:   c,
		Host: func(ctx context.Context) (string, error) {
			if ips := m.cfg.Node.Addresses(); pod.Spec.HostNetwork && len(ips) > 0 {
				return ips[0], nil
			}
			if len(ips) > 0 {
				return ips[0], nil
			}
			return m.podIP(ctx, pod)
		},
		Warn: func(reason, message string) {
			m.cfg.Journal.Container(pod, c.Name).Warn(reason, message)
		},
	}
}

// podIP asks the runtime for the address of the pod's newest ready sandbox; it
// returns the node's if the sandbox is on the node's network.
func (m *Manager) podIP(ctx context.Context, pod *v1.Pod) (string, error) {
	list, err := m.cfg.CRI.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		State:         &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
		LabelSelector: map[string]string{pods.LabelPodUID: string(pod.UID)},
	}})
	if err != nil {
		return "", fmt.Errorf("find the pod's address: %w", err)
	}
	var newest *cri.PodSandbox
	for _, s := range list.Items {
		if newest == nil || cmp.Or(cmp.Compare(s.GetMetadata().GetAttempt(), newest.GetMetadata().GetAttempt()), cmp.Compare(s.CreatedAt, newest.CreatedAt)) > 0 {
			newest = s
		}
	}
	if newest == nil {
		return "", errors.New("the pod has no sandbox that is ready")
	}
	r, err := m.cfg.CRI.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: newest.Id})
	if err != nil {
		return "", fmt.Errorf("find the pod's address: %w", err)
	}
	if ips := m.cfg.Node.Addresses(); r.GetStatus().GetLinux().GetNamespaces().GetOptions().GetNetwork() == cri.NamespaceMode_NODE && len(ips) > 0 {
		return ips[0], nil
	}
	if ips := m.sandboxIPs(r.GetStatus()); len(ips) > 0 {
		return ips[0], nil
	}
	return "", errors.New("the pod has no address")
}
