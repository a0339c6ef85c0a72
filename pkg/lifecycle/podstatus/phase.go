package podstatus

import (
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// phase returns the pod's phase from its containers' statuses, like the kubelet's
// getPhase.
func phase(pod *v1.Pod, initStatuses, statuses []v1.ContainerStatus, terminal bool) v1.PodPhase {
	var pendingInit, failedInit int
	var unknown, running, waiting, stopped, succeeded, restarting int
	for _, c := range pod.Spec.InitContainers {
		s := pods.ContainerStatus(initStatuses, c.Name)
		if pods.IsSidecar(&c) {
			switch {
			case s == nil:
				unknown++
			case s.State.Running != nil:
				if s.Started == nil || !*s.Started {
					pendingInit++
				}
				running++
			case s.State.Terminated != nil, s.LastTerminationState.Terminated != nil:
				// A sidecar that has ended does not affect the pod's phase.
			default:
				pendingInit++
				waiting++
			}
			continue
		}
		switch {
		case s == nil:
			pendingInit++
		case s.State.Terminated != nil:
			if s.State.Terminated.ExitCode != 0 && !restartsAfter(pod, c, s.State.Terminated) {
				failedInit++
			} else if s.State.Terminated.ExitCode != 0 {
				pendingInit++
			}
		case s.State.Waiting != nil && s.LastTerminationState.Terminated != nil:
			if last := s.LastTerminationState.Terminated; last.ExitCode != 0 && !restartsAfter(pod, c, last) {
				failedInit++
			} else {
				pendingInit++
			}
		default:
			pendingInit++
		}
	}
	for _, c := range pod.Spec.Containers {
		s := pods.ContainerStatus(statuses, c.Name)
		if s == nil {
			unknown++
			continue
		}
		ended := s.State.Terminated
		if ended == nil && s.State.Waiting != nil {
			ended = s.LastTerminationState.Terminated
		}
		switch {
		case s.State.Running != nil:
			running++
		case ended != nil:
			stopped++
			if ended.ExitCode == 0 {
				succeeded++
			}
			if restartsAfter(pod, c, ended) {
				restarting++
			}
		case s.State.Waiting != nil:
			waiting++
		default:
			unknown++
		}
	}
	if terminal {
		if failedInit+pendingInit == 0 && stopped > 0 && stopped == succeeded && stopped == len(pod.Spec.Containers) {
			return v1.PodSucceeded
		}
		return v1.PodFailed
	}
	switch {
	case failedInit > 0:
		return v1.PodFailed
	case pendingInit > 0 && !anyStarted(pod, statuses), waiting > 0:
		return v1.PodPending
	case unknown > 0:
		return v1.PodPending
	case running > 0 && !onlySidecarsRun(pod, initStatuses, stopped, restarting):
		return v1.PodRunning
	case stopped == 0:
		return v1.PodPending
	case restarting > 0:
		return v1.PodRunning
	case stopped == succeeded:
		return v1.PodSucceeded
	}
	return v1.PodFailed
}

// onlySidecarsRun reports whether all regular containers are done for good, so that
// only sidecars may still run, which must be stopped: the pod is at its end.
func onlySidecarsRun(pod *v1.Pod, initStatuses []v1.ContainerStatus, stopped, restarting int) bool {
	return stopped == len(pod.Spec.Containers) && restarting == 0 && len(initStatuses) > 0
}

// restartsAfter reports whether the container is started again after it ended this
// way, by its policy or together with all others.
func restartsAfter(pod *v1.Pod, c v1.Container, ended *v1.ContainerStateTerminated) bool {
	return pod.DeletionTimestamp == nil && ended.Reason == kuberuntime.ReasonRestartingAll || restarts(pod, c, ended.ExitCode)
}

// mayRestartAll reports whether a rule of the pod can restart all containers.
func mayRestartAll(pod *v1.Pod) bool {
	ruled := func(c v1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r v1.ContainerRestartRule) bool {
			return r.Action == v1.ContainerRestartRuleActionRestartAllContainers
		})
	}
	return slices.ContainsFunc(pod.Spec.InitContainers, ruled) || slices.ContainsFunc(pod.Spec.Containers, ruled)
}

// restartingAll reports whether all containers are being removed in order to start
// again, or were when last seen.
func restartingAll(in Input) bool {
	if !mayRestartAll(in.Pod) || in.Pod.DeletionTimestamp != nil {
		return false
	}
	c := condition(in.Old, v1.AllContainersRestarting)
	return c != nil && c.Status == v1.ConditionTrue || kuberuntime.RestartsAll(in.Pod, in.Observed)
}

// restarts reports whether the container is started again after that exit.
func restarts(pod *v1.Pod, c v1.Container, exitCode int32) bool {
	return kuberuntime.Restarts(pod, &c, exitCode)
}

// anyStarted reports whether a regular container has ever run: then the pod has
// been initialised, whatever its init containers' statuses have become since.
func anyStarted(pod *v1.Pod, statuses []v1.ContainerStatus) bool {
	for _, c := range pod.Spec.Containers {
		if s := pods.ContainerStatus(statuses, c.Name); s != nil &&
			(s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil) {
			return true
		}
	}
	return false
}

// initialized reports whether the pod's init containers have done their work.
func initialized(pod *v1.Pod, initStatuses, statuses []v1.ContainerStatus) bool {
	if anyStarted(pod, statuses) {
		return true
	}
	for _, c := range pod.Spec.InitContainers {
		s := pods.ContainerStatus(initStatuses, c.Name)
		if s == nil || pods.IsSidecar(&c) && (s.Started == nil || !*s.Started) || !pods.IsSidecar(&c) && !s.Ready {
			return false
		}
	}
	return true
}
