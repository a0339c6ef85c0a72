// Package actual holds what is observed of pods at the runtime, through lists and
// inspections: the actual state, as opposed to the desired one, which is a *v1.Pod.
package actual

import (
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// ContainerID names a container at its runtime. Its text form, "docker://<id>",
// is what v1.ContainerStatus.containerID carries.
type ContainerID struct {
	Runtime string // runtime name as CRI Version reports it, e.g. "docker"
	ID      string
}

// String returns "<runtime>://<id>", or "" for the zero ContainerID.
func (c ContainerID) String() string {
	if c.ID == "" {
		return ""
	}
	return c.Runtime + "://" + c.ID
}

// ParseContainerID reads the text form of a ContainerID.
func ParseContainerID(s string) (ContainerID, error) {
	name, id, ok := strings.Cut(s, "://")
	if !ok || name == "" || id == "" {
		return ContainerID{}, fmt.Errorf("container ID %q: want <runtime>://<id>", s)
	}
	return ContainerID{Runtime: name, ID: id}, nil
}

// State is the life-cycle state of a container or sandbox.
type State string

// States of a container. A sandbox is StateRunning when CRI says SANDBOX_READY
// and StateExited otherwise.
const (
	StateCreated State = "created"
	StateRunning State = "running"
	StateExited  State = "exited"
	StateUnknown State = "unknown"
)

// Pod is what one list of the runtime shows of a pod: every sandbox and every
// container that carries its UID, dead ones included, newest first.
// It is cheap (no inspect) and is what PLEG compares between two relists.
type Pod struct {
	UID        types.UID
	Name       string
	Namespace  string
	Sandboxes  []Sandbox
	Containers []Container
}

// Sandbox is one sandbox of a Pod as listed.
type Sandbox struct {
	ID        string
	Attempt   uint32
	State     State
	CreatedAt time.Time
}

// Container is one container of a Pod as listed.
type Container struct {
	ID        string
	Name      string
	SandboxID string
	Attempt   uint32
	State     State
	CreatedAt time.Time
	ImageID   string
}

// Running reports whether any sandbox or container of the pod is running or in
// an unknown state, that is, whether there is anything left to kill.
func (p *Pod) Running() bool {
	if p == nil {
		return false
	}
	for _, s := range p.Sandboxes {
		if s.State == StateRunning || s.State == StateUnknown {
			return true
		}
	}
	for _, c := range p.Containers {
		if c.State == StateRunning || c.State == StateUnknown {
			return true
		}
	}
	return false
}

// PodStatus is the full observed state of a pod, inspected rather than listed:
// the input to every decision about the pod and the source of its API status.
type PodStatus struct {
	UID       types.UID
	Name      string
	Namespace string
	// IPs are those of the newest ready sandbox, primary first; empty with host
	// network.
	IPs []string
	// Sandboxes, newest first.
	Sandboxes []*cri.PodSandboxStatus
	// Containers, newest first; several with one name are that container's attempts.
	Containers []*ContainerStatus
	// ObservedAt is when the runtime was asked: the status includes everything that
	// happened before.
	ObservedAt time.Time
}

// ContainerStatus is the inspected state of one container.
type ContainerStatus struct {
	ID           ContainerID
	Name         string
	SandboxID    string
	State        State
	CreatedAt    time.Time
	StartedAt    time.Time
	FinishedAt   time.Time
	ExitCode     int32
	Image        string // as the pod's spec named it
	ImageID      string // runtime's image reference, for v1.ContainerStatus.imageID
	ImageRef     string
	Hash         uint64 // of the v1.Container it was made from, see criconfig.HashContainer
	RestartCount int32  // attempts before this one, kept across agent restarts
	Reason       string // runtime's or ours: Completed, Error, OOMKilled, ...
	Message      string // termination message
	LogPath      string
	Resources    *cri.ContainerResources
	User         *cri.ContainerUser
	Mounts       []*cri.Mount
	StopSignal   cri.Signal
	// Recorded is what the container's annotations say about the spec it was made
	// from.
	Recorded pods.Recorded
}

// Container returns the newest container of that name, or nil.
func (s *PodStatus) Container(name string) *ContainerStatus {
	if s == nil {
		return nil
	}
	for _, c := range s.Containers {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// LastEnd returns the newest container of that name that has ended, or nil.
func (s *PodStatus) LastEnd(name string) *ContainerStatus {
	for _, c := range s.Containers {
		if c.Name == name && c.State == StateExited {
			return c
		}
	}
	return nil
}

// FailedProbe is the probe because of which a container must be restarted, as
// messages call it; "" for none.
type FailedProbe string

// The probes that restart a container.
const (
	FailedLiveness FailedProbe = "liveness"
	FailedStartup  FailedProbe = "startup"
)

// Waiting says why a container that should run does not, in the words of
// v1.ContainerStateWaiting: ErrImagePull, CrashLoopBackOff, ...
type Waiting struct {
	Reason  string
	Message string
}

// GracePeriod returns the grace period, in seconds, that the probe gives a container
// that fails it; nil when it gives none.
func (f FailedProbe) GracePeriod(c *v1.Container) *int64 {
	p := c.LivenessProbe
	if f == FailedStartup {
		p = c.StartupProbe
	}
	if p == nil {
		return nil
	}
	return p.TerminationGracePeriodSeconds
}

// Pod returns the listed form of a status: its sandboxes and containers with their
// states.
func (s *PodStatus) Pod() *Pod {
	if s == nil {
		return nil
	}
	p := &Pod{UID: s.UID, Name: s.Name, Namespace: s.Namespace}
	for _, sb := range s.Sandboxes {
		p.Sandboxes = append(p.Sandboxes, Sandbox{ID: sb.Id, Attempt: sb.GetMetadata().GetAttempt(), State: SandboxState(sb.State), CreatedAt: Instant(sb.CreatedAt)})
	}
	for _, c := range s.Containers {
		p.Containers = append(p.Containers, Container{ID: c.ID.ID, Name: c.Name, SandboxID: c.SandboxID, State: c.State, CreatedAt: c.CreatedAt})
	}
	return p
}
