package kuberuntime

import (
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// ReasonRestartingAll is that of containers which were removed so that all of the
// pod's start again (KEP-5532): v1.ContainerStateTerminated's and -Waiting's.
const ReasonRestartingAll = "RestartingAllContainers"

// ExitUnknown is the exit code of a container of whose end nothing is known but that
// it came: the kubelet's, for v1.ContainerStateTerminated's ContainerStatusUnknown.
const ExitUnknown = 137

// Over tells that a pod is at its end because its sandbox is gone: in a new one a
// container would run a second time that may not. Nothing of the pod is to be started
// any more, whatever there is that has not run yet. pod.Status must say what was known
// of the pod before. docs/decisions/never-runs-twice.md compares the kubelet.
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
	// A new sandbox is initialised anew, by all init containers or not at all.
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
// code: it was stopped for a probe, or nobody knows what became of it. Rules by exit
// code then do not count.
func mayRestart(pod *v1.Pod, c *v1.Container) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy != v1.ContainerRestartPolicyNever
	}
	return pod.Spec.RestartPolicy != v1.RestartPolicyNever
}

// known is the newest attempt of a container, by the runtime or, where that has it no
// more, by what was known of the pod before; nil for one that never ran as far as
// anybody knows.
func known(pod *v1.Pod, c *v1.Container, observed *actual.PodStatus) *actual.ContainerStatus {
	if s := observed.Container(c.Name); s != nil {
		return s
	}
	return recalled(pod, c.Name)
}

// recalled is how a container ended that the runtime may not have any more, by the
// pod's status; nil where that does not say that it ever ran. It does not tell in which
// sandbox that was.
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

// ranBefore reports whether any container of the pod has run, by its status.
func ranBefore(pod *v1.Pod) bool {
	return slices.ContainsFunc(statuses(pod), func(s v1.ContainerStatus) bool { return recall(s) != nil })
}

func statuses(pod *v1.Pod) []v1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses)
}
