package kuberuntime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// ErrNoEvents is returned by Follow when the runtime has no events to follow.
var ErrNoEvents = errors.New("the runtime sends no events")

// GetPods lists all pods that the runtime has, with two calls.
func (m *Manager) GetPods(ctx context.Context) ([]*actual.Pod, error) {
	return m.list(ctx, nil)
}

// GetPod lists one pod; it returns nil when the runtime does not have it.
func (m *Manager) GetPod(ctx context.Context, uid types.UID) (*actual.Pod, error) {
	pods, err := m.list(ctx, map[string]string{pods.LabelPodUID: string(uid)})
	if err != nil || len(pods) == 0 {
		return nil, err
	}
	return pods[0], nil
}

func (m *Manager) list(ctx context.Context, labels map[string]string) ([]*actual.Pod, error) {
	sandboxes, err := m.cfg.CRI.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{LabelSelector: labels}})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	containers, err := m.cfg.CRI.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{LabelSelector: labels}})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return group(sandboxes.Items, containers.Containers), nil
}

// group groups sandboxes and containers by the pod in their labels. What no kubelet
// has made is left out.
func group(sandboxes []*cri.PodSandbox, containers []*cri.Container) []*actual.Pod {
	byUID := make(map[types.UID]*actual.Pod, len(sandboxes))
	var found []*actual.Pod
	of := func(labels map[string]string) *actual.Pod {
		id, ok := pods.ReadLabels(labels)
		if !ok {
			return nil
		}
		p := byUID[id.UID]
		if p == nil {
			p = &actual.Pod{UID: id.UID, Name: id.PodName, Namespace: id.Namespace}
			byUID[id.UID] = p
			found = append(found, p)
		}
		return p
	}
	for _, s := range sandboxes {
		if p := of(s.Labels); p != nil {
			p.Sandboxes = append(p.Sandboxes, actual.Sandbox{ID: s.Id, Attempt: s.GetMetadata().GetAttempt(), State: actual.SandboxState(s.State), CreatedAt: time.Unix(0, s.CreatedAt)})
		}
	}
	for _, c := range containers {
		// The name becomes part of paths, so it is the checked one from the label.
		name := c.Labels[pods.LabelContainerName]
		if p := of(c.Labels); p != nil && name != "" {
			p.Containers = append(p.Containers, actual.Container{
				ID: c.Id, Name: name, SandboxID: c.PodSandboxId, Attempt: c.GetMetadata().GetAttempt(),
				State: actual.ContainerState(c.State), CreatedAt: time.Unix(0, c.CreatedAt), ImageID: c.ImageRef,
			})
		}
	}
	for _, p := range found {
		// The attempt tells which is newer, since the clock may have been set back between two; of
		// containers, in one sandbox.
		slices.SortFunc(p.Sandboxes, func(a, b actual.Sandbox) int {
			return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
		})
		order := map[string]int{}
		for i, s := range p.Sandboxes {
			order[s.ID] = i - len(p.Sandboxes)
		}
		slices.SortFunc(p.Containers, func(a, b actual.Container) int {
			return cmp.Or(cmp.Compare(order[a.SandboxID], order[b.SandboxID]), cmp.Compare(b.Attempt, a.Attempt),
				b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
		})
	}
	return found
}

// GetPodStatus inspects a listed pod: its newest sandbox, and the last two attempts
// of each container. What has gone since the list is left out.
func (m *Manager) GetPodStatus(ctx context.Context, pod *actual.Pod) (*actual.PodStatus, error) {
	st := &actual.PodStatus{UID: pod.UID, Name: pod.Name, Namespace: pod.Namespace, ObservedAt: m.cfg.Clock.Now()}
	for i, s := range pod.Sandboxes {
		// For an old sandbox that is not ready, the list says everything.
		if i > 0 && s.State == actual.StateExited {
			st.Sandboxes = append(st.Sandboxes, &cri.PodSandboxStatus{
				Id: s.ID, Metadata: &cri.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: s.Attempt},
				State: cri.PodSandboxState_SANDBOX_NOTREADY, CreatedAt: s.CreatedAt.UnixNano(),
			})
			continue
		}
		r, err := m.cfg.CRI.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: s.ID})
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("inspect sandbox %s of pod %s/%s: %w", s.ID, pod.Namespace, pod.Name, err)
		}
		if len(st.Sandboxes) == 0 && r.Status.State == cri.PodSandboxState_SANDBOX_READY {
			st.IPs = m.sandboxIPs(r.Status)
		}
		st.Sandboxes = append(st.Sandboxes, r.Status)
	}
	attempts := map[string]int{}
	for _, c := range pod.Containers {
		attempts[c.Name]++
		if attempts[c.Name] > 2 && c.State == actual.StateExited {
			continue
		}
		r, err := m.cfg.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.ID})
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("inspect container %s of pod %s/%s: %w", c.Name, pod.Namespace, pod.Name, err)
		}
		cs := m.containerStatus(r.Status)
		cs.SandboxID = c.SandboxID
		st.Containers = append(st.Containers, cs)
	}
	return st, nil
}

// sandboxIPs returns a sandbox's addresses as everything above the runtime shows them: status,
// environment, files and hooks.
func (m *Manager) sandboxIPs(s *cri.PodSandboxStatus) []string {
	ips := []string{s.GetNetwork().GetIp()}
	for _, a := range s.GetNetwork().GetAdditionalIps() {
		ips = append(ips, a.GetIp())
	}
	return pods.Addresses(ips, m.cfg.Node.Addresses())
}

func (m *Manager) containerStatus(c *cri.ContainerStatus) *actual.ContainerStatus {
	// An annotation that cannot be read back is zero: then the node merely forgets
	// a detail of a container that somebody has tampered with.
	recorded, _ := pods.ReadAnnotations(c.Annotations)
	s := &actual.ContainerStatus{
		ID:        actual.ContainerID{Runtime: m.cfg.Name, ID: c.Id},
		Name:      c.Labels[pods.LabelContainerName],
		State:     actual.ContainerState(c.State),
		CreatedAt: actual.Instant(c.CreatedAt), StartedAt: actual.Instant(c.StartedAt), FinishedAt: actual.Instant(c.FinishedAt),
		ExitCode:     c.ExitCode,
		Image:        cmp.Or(c.GetImage().GetUserSpecifiedImage(), c.GetImage().GetImage()),
		ImageID:      cmp.Or(c.ImageRef, c.ImageId),
		ImageRef:     c.ImageRef,
		Hash:         recorded.Hash,
		RestartCount: recorded.RestartCount,
		Reason:       c.Reason,
		Message:      c.Message,
		LogPath:      c.LogPath,
		Resources:    c.Resources,
		User:         c.User,
		Mounts:       c.Mounts,
		StopSignal:   c.StopSignal,
		Recorded:     recorded,
	}
	if s.State == actual.StateExited {
		s.Message = terminationMessage(c, recorded)
	}
	return s
}

func isNotFound(err error) bool { return status.Code(err) == codes.NotFound }

// Follow calls tell for each pod to which something has happened that a look can
// show: a container has started, or a container or sandbox has stopped. A mere
// creation, or a removal after the end, is no reason to look.
func (m *Manager) Follow(ctx context.Context, tell func(types.UID)) error {
	stream, err := m.cfg.CRI.GetContainerEvents(crimeta.WithoutStatuses(ctx), &cri.GetEventsRequest{})
	if err == nil {
		m.metrics.streams.Inc()
	}
	for err == nil {
		var e *cri.ContainerEventResponse
		if e, err = stream.Recv(); err != nil {
			break
		}
		m.metrics.eventAge.Observe(m.cfg.Clock.Since(time.Unix(0, e.CreatedAt)).Seconds())
		uid := types.UID(e.GetPodSandboxStatus().GetMetadata().GetUid())
		sandbox := e.ContainerId == e.GetPodSandboxStatus().GetId()
		switch e.ContainerEventType {
		case cri.ContainerEventType_CONTAINER_STARTED_EVENT:
			if uid != "" && !sandbox {
				tell(uid)
			}
		case cri.ContainerEventType_CONTAINER_STOPPED_EVENT, cri.ContainerEventType_CONTAINER_DELETED_EVENT:
			if uid != "" {
				tell(uid)
			}
		}
	}
	if ctx.Err() == nil {
		m.metrics.streamErrors.Inc()
	}
	switch {
	case status.Code(err) == codes.Unimplemented:
		return ErrNoEvents
	case errors.Is(err, io.EOF):
		return errors.New("the runtime ended the event stream")
	}
	return fmt.Errorf("follow the runtime's events: %w", err)
}
