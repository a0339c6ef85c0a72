package actual

import (
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SandboxState converts CRI's state of a sandbox.
func SandboxState(s cri.PodSandboxState) State {
	if s == cri.PodSandboxState_SANDBOX_READY {
		return StateRunning
	}
	return StateExited
}

// ContainerState converts CRI's state of a container.
func ContainerState(s cri.ContainerState) State {
	switch s {
	case cri.ContainerState_CONTAINER_CREATED:
		return StateCreated
	case cri.ContainerState_CONTAINER_RUNNING:
		return StateRunning
	case cri.ContainerState_CONTAINER_EXITED:
		return StateExited
	}
	return StateUnknown
}

// Instant returns the time of CRI's nanoseconds since 1970, the zero time for none.
func Instant(ns int64) time.Time {
	if ns <= 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
