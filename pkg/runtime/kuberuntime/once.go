package kuberuntime

import (
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// ReasonRestartingAll is the reason, in v1.ContainerStateTerminated and -Waiting,
// for containers that were removed so that all containers of the pod start again
// (KEP-5532).
const ReasonRestartingAll = "RestartingAllContainers"

// ExitUnknown is the exit code of a container that is known only to have ended: the
// kubelet's, for v1.ContainerStateTerminated with reason ContainerStatusUnknown.
const ExitUnknown = 137

// Over reports whether a pod is at its end because its sandbox is gone: in a new one a
// container would run a second time that must not. Then nothing of the pod may be
// started any more, even if it has not run yet. pod.Status must hold what was known of
// the pod before. docs/decisions/never-runs-twice.md compares the kubelet.
func Over(pod *v1.Pod, observed *actual.PodStatus) bool {
	if pod.DeletionTimestamp != nil || RestartsAll(pod, observed) {
		return false
	}
	if create, _, _ := sandboxAction(pod, observed); !create {
		return false
	}
	if pod.Spec.RestartPolicy == v1.RestartPolicyNever {
		return len(observed.Containers) > 0 || ranBefore(pod)
	}
	// All init containers run again in a new sandbox, or none does.
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c v1.Container) bool {
		s := known(pod, &c, observed)
		switch {
		case s == nil, s.State == actual.StateCreated:
			return false
		case s.State == actual.StateExited && s.ExitCode != 0:
			return !Restarts(pod, &c, s.ExitCode)
		}
		return !mayRestart(pod, &c)
	})
}

// mayRestart reports whether a container is started again after an end that has no exit
// code: it was stopped because of a probe, or nobody knows what became of it. Rules by
// exit code do not apply then.
func mayRestart(pod *v1.Pod, c *v1.Container) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy != v1.ContainerRestartPolicyNever
	}
	return pod.Spec.RestartPolicy != v1.RestartPolicyNever
}

// known returns the newest attempt of a container: from the runtime or, if that no
// longer has it, from what was known of the pod before; nil if it never ran as far as
// anybody knows.
func known(pod *v1.Pod, c *v1.Container, observed *actual.PodStatus) *actual.ContainerStatus {
	if s := observed.Container(c.Name); s != nil {
		return s
	}
	return recalled(pod, c.Name)
}

// recalled returns how a container that the runtime may no longer have ended, according
// to the pod's status; nil if the status does not say that it ever ran. The sandbox
// that it ran in is unknown.
func recalled(pod *v1.Pod, name string) *actual.ContainerStatus {
	for _, s := range statuses(pod) {
		if s.Name == name {
			return recall(s)
		}
	}
	return nil
}

func recall(s v1.ContainerStatus) *actual.ContainerStatus {
	end := s.State.Terminated
	switch {
	case s.State.Running != nil:
		end = &v1.ContainerStateTerminated{ExitCode: ExitUnknown}
	case end == nil:
		end = s.LastTerminationState.Terminated
	}
	if end == nil || end.Reason == ReasonRestartingAll {
		return nil
	}
	return &actual.ContainerStatus{Name: s.Name, State: actual.StateExited, ExitCode: end.ExitCode}
}

// ranBefore reports whether any container of the pod has run, according to the
// pod's status.
func ranBefore(pod *v1.Pod) bool {
	return slices.ContainsFunc(statuses(pod), func(s v1.ContainerStatus) bool { return recall(s) != nil })
}

func statuses(pod *v1.Pod) []v1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses)
}
