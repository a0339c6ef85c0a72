package kuberuntime

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// reset removes the containers in this order, running ones without any grace, and
// before them what is left of earlier attempts: the pod must look like one that has
// not begun. Logs stay, and show how often each container has run.
func (m *Manager) reset(ctx context.Context, pod *v1.Pod, containers []*actual.ContainerStatus) error {
	klog.V(2).InfoS("Restarting all containers", "pod", klog.KObj(pod), "podUID", pod.UID)
	listed, err := m.GetPod(ctx, pod.UID)
	if err != nil {
		return err
	}
	seen, names := map[string]bool{}, map[string]bool{}
	for _, s := range containers {
		seen[s.ID.ID], names[s.Name] = true, true
	}
	if listed != nil {
		for _, c := range listed.Containers {
			if names[c.Name] && !seen[c.ID] {
				if err := m.discard(ctx, pod, c.Name, c.ID, c.State); err != nil {
					return err
				}
			}
		}
	}
	for _, s := range containers {
		if err := m.discard(ctx, pod, s.Name, s.ID.ID, s.State); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holds.forget(pod.UID) // as before its first start, nothing holds a container back
	return nil
}

// discard kills the container if it runs, and removes it.
func (m *Manager) discard(ctx context.Context, pod *v1.Pod, name, id string, state actual.State) error {
	if state != actual.StateExited {
		m.cfg.Journal.Container(pod, name).Normal("Killing", "killing")
		if _, err := m.cfg.CRI.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id}); err != nil && !isNotFound(err) {
			return fmt.Errorf("stop container %s: %w", name, err)
		}
	}
	if _, err := m.cfg.CRI.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id}); err != nil && !isNotFound(err) {
		return fmt.Errorf("remove container %s: %w", name, err)
	}
	return nil
}
