package podstatus

import (
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/stopsignal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// Reasons that the kubelet gives for states when the runtime gives none.
const (
	reasonCreating     = "ContainerCreating"
	reasonInitializing = "PodInitializing"
	reasonUnknown      = "ContainerStatusUnknown"
)

// messageRestartingAll is the message that goes with
// kuberuntime.ReasonRestartingAll.
const messageRestartingAll = "The container is removed because RestartAllContainers in place"

const initDefault = reasonInitializing

// mainDefault is the reason why a regular container waits before anything is known.
func mainDefault(pod *v1.Pod) string {
	if len(pod.Spec.InitContainers) > 0 {
		return reasonInitializing
	}
	return reasonCreating
}

// containerStatuses makes the statuses of containers: regular ones in the order of
// their names, init containers in the order of the spec, as the kubelet does.
func containerStatuses(in Input, containers []v1.Container, old []v1.ContainerStatus, waitFor string) []v1.ContainerStatus {
	if len(containers) == 0 {
		return nil
	}
	statuses := make([]v1.ContainerStatus, 0, len(containers))
	for _, c := range containers {
		statuses = append(statuses, containerStatus(in, c, pods.ContainerStatus(old, c.Name), waitFor))
	}
	if &containers[0] == &in.Pod.Spec.Containers[0] {
		slices.SortStableFunc(statuses, func(a, b v1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	}
	return statuses
}

func containerStatus(in Input, c v1.Container, old *v1.ContainerStatus, waitFor string) v1.ContainerStatus {
	var attempts []*actual.ContainerStatus // newest first
	if in.Observed != nil {
		for _, o := range in.Observed.Containers {
			if o.Name == c.Name {
				attempts = append(attempts, o)
			}
		}
	}
	if len(attempts) == 0 {
		return unseen(in, c, old, waitFor)
	}
	now := attempts[0]
	s := v1.ContainerStatus{
		Name:         c.Name,
		Image:        now.Image,
		ImageID:      now.ImageID,
		ContainerID:  now.ID.String(),
		RestartCount: now.RestartCount,
		State:        state(now),
	}
	// The last termination state is that of the newest earlier attempt that has
	// exited.
	for _, before := range attempts[1:] {
		if before.State == actual.StateExited {
			s.LastTerminationState = state(before)
			break
		}
	}
	if old != nil {
		if old.RestartCount > s.RestartCount {
			s.RestartCount = old.RestartCount
		}
		if s.LastTerminationState.Terminated == nil && endOf(old.LastTerminationState, s.ContainerID) {
			// It is the end of this very container, which has waited for its next start meanwhile.
		} else if s.LastTerminationState.Terminated == nil && (old.ContainerID == s.ContainerID || old.ContainerID == "") {
			s.LastTerminationState = old.LastTerminationState
		} else if s.LastTerminationState.Terminated == nil && old.State.Terminated != nil {
			s.LastTerminationState = old.State // its container has been collected
		}
	}
	if now.State == actual.StateUnknown {
		// Nobody knows what has happened to it; for us it does not run.
		s.State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			Reason: reasonUnknown, ExitCode: kuberuntime.ExitUnknown, ContainerID: s.ContainerID,
			Message: "The container could not be located when the pod was deleted.  The container used to be Running",
		}}
	}
	// An init container that has succeeded can wait nevertheless: for its turn in a new sandbox.
	over := now.State == actual.StateExited && now.ExitCode != 0 && !restartsAfter(in.Pod, c, s.State.Terminated)
	if w, ok := in.Waiting[c.Name]; ok && now.State != actual.StateRunning && !over {
		if s.State.Terminated != nil {
			s.LastTerminationState = s.State
		}
		s.State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}}
	}
	if s.State.Waiting != nil && s.State.Waiting.Reason == "" {
		s.State.Waiting.Reason = waitFor // created, not started
	}
	readiness(in, c, now, &s)
	details(c, now, &s)
	return s
}

// endOf reports whether a state is the end of the container with that ID.
func endOf(state v1.ContainerState, id string) bool {
	return state.Terminated != nil && state.Terminated.ContainerID != "" && state.Terminated.ContainerID == id
}

// unseen returns the status of a container that the runtime does not have: it was
// never made, or somebody has removed it.
func unseen(in Input, c v1.Container, old *v1.ContainerStatus, waitFor string) v1.ContainerStatus {
	no := false
	s := v1.ContainerStatus{
		Name: c.Name, Image: c.Image, Started: &no,
		State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: waitFor}},
	}
	if ephemeral(in.Pod, c.Name) {
		s.Started = nil
	}
	if old != nil {
		if old.State.Waiting == nil && !ephemeral(in.Pod, c.Name) && restartingAll(in) {
			s.State.Waiting = &v1.ContainerStateWaiting{Reason: kuberuntime.ReasonRestartingAll, Message: messageRestartingAll}
			s.LastTerminationState.Terminated = &v1.ContainerStateTerminated{Reason: kuberuntime.ReasonRestartingAll, Message: messageRestartingAll, ExitCode: kuberuntime.ExitUnknown}
			s.RestartCount = old.RestartCount + 1
			return s
		}
		if old.State.Terminated != nil {
			return *old.DeepCopy() // its container has been collected
		}
		if old.State.Running != nil && onlyOnce(in, c) {
			started := s.Started
			s = *old.DeepCopy()
			s.State, s.Started, s.Ready = lost(old), started, false
			s.AllocatedResources, s.Resources = nil, nil
			return s
		}
		s.RestartCount = old.RestartCount
		s.LastTerminationState = old.LastTerminationState
		if w := old.State.Waiting; w != nil && w.Reason != reasonInitializing && w.Reason != reasonCreating && w.Reason != kuberuntime.ReasonRestartingAll {
			s.State.Waiting = w.DeepCopy() // the reason why it could not be started holds until the next try
		}
		if old.State.Running != nil {
			// It ran when last seen, and has been removed by somebody else.
			s.LastTerminationState = lost(old)
			if in.Pod.DeletionTimestamp == nil && !in.Terminal {
				s.RestartCount++
			}
		}
	}
	if w, ok := in.Waiting[c.Name]; ok {
		s.State.Waiting = &v1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
	} else if done(in.Pod, c, in.Observed) {
		// An init container that did its work and has been collected since.
		s.State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			Reason: "Completed", Message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally",
		}}
		s.Ready = true
	}
	return s
}

// onlyOnce reports whether a container that is gone does not run again, by its policy or
// because it is ephemeral. An init container that later containers followed did not
// fail.
func onlyOnce(in Input, c v1.Container) bool {
	return ephemeral(in.Pod, c.Name) || !done(in.Pod, c, in.Observed) && !restarts(in.Pod, c, kuberuntime.ExitUnknown)
}

// lost returns the end of a container that ran when last seen, and is gone.
func lost(old *v1.ContainerStatus) v1.ContainerState {
	return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
		Reason: reasonUnknown, ExitCode: kuberuntime.ExitUnknown, ContainerID: old.ContainerID, StartedAt: old.State.Running.StartedAt,
		Message: "The container could not be located when the pod was deleted.  The container used to be Running",
	}}
}

// done reports whether a missing init container must have succeeded: a regular
// container of the pod exists. Sidecars do not end.
func done(pod *v1.Pod, c v1.Container, observed *actual.PodStatus) bool {
	if pods.IsSidecar(&c) || !pods.IsInit(pod, c.Name) {
		return false
	}
	return slices.ContainsFunc(pod.Spec.Containers, func(m v1.Container) bool { return observed.Container(m.Name) != nil })
}

// state returns the API state of a container as it was observed.
func state(c *actual.ContainerStatus) v1.ContainerState {
	switch c.State {
	case actual.StateRunning:
		return v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: second(c.StartedAt)}}
	case actual.StateExited:
		return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			ExitCode: c.ExitCode, Reason: c.Reason, Message: c.Message, ContainerID: c.ID.String(),
			StartedAt: second(c.StartedAt), FinishedAt: second(c.FinishedAt),
		}}
	}
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}
}

// readiness sets started and ready. An init container is ready when it has
// succeeded, any other when it runs and its probes say so; an ephemeral one, which
// has none, is neither.
func readiness(in Input, c v1.Container, now *actual.ContainerStatus, s *v1.ContainerStatus) {
	if ephemeral(in.Pod, c.Name) {
		return
	}
	run := s.State.Running != nil
	started := run && (in.Started == nil || in.Started(now.ID))
	s.Started = &started
	if !pods.IsSidecar(&c) && pods.IsInit(in.Pod, c.Name) {
		s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		return
	}
	s.Ready = started && (in.Ready == nil || in.Ready(now.ID))
}

func ephemeral(pod *v1.Pod, name string) bool {
	c, kind := pods.Container(pod, name)
	return c != nil && kind == pods.EphemeralContainer
}

// details sets the fields that newer releases have added: resources, mounts, user
// and stop signal.
func details(c v1.Container, now *actual.ContainerStatus, s *v1.ContainerStatus) {
	if s.State.Running != nil {
		s.AllocatedResources = c.Resources.Requests.DeepCopy()
		s.Resources = resourcesOf(c, now.Resources.GetLinux())
	}
	for _, m := range c.VolumeMounts {
		vm := v1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly && m.RecursiveReadOnly != nil {
			mode := v1.RecursiveReadOnlyDisabled
			if i := slices.IndexFunc(now.Mounts, func(o *cri.Mount) bool { return o.ContainerPath == m.MountPath }); i >= 0 && now.Mounts[i].RecursiveReadOnly {
				mode = v1.RecursiveReadOnlyEnabled
			}
			vm.RecursiveReadOnly = &mode
		}
		s.VolumeMounts = append(s.VolumeMounts, vm)
	}
	if u := now.User.GetLinux(); u != nil {
		s.User = &v1.ContainerUser{Linux: &v1.LinuxContainerUser{UID: u.Uid, GID: u.Gid, SupplementalGroups: u.SupplementalGroups}}
	}
	if name := stopsignal.Name(now.StopSignal); name != "" {
		s.StopSignal = new(v1.Signal(name))
	}
}

// second truncates a time to the precision that the API keeps; the zero time stays
// zero.
func second(t time.Time) metav1.Time {
	if t.IsZero() || t.Unix() <= 0 {
		return metav1.Time{}
	}
	return metav1.Time{Time: t.Truncate(time.Second)}
}
