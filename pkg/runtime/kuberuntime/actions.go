package kuberuntime

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// actions is what has to be done about a pod now, in this order.
type actions struct {
	// reset holds all containers, if they must be removed, in this order: then nothing
	// else is done, and the pod starts again from its first container.
	reset []*actual.ContainerStatus
	// killPod stops everything of the pod, sandboxes included.
	killPod bool
	// createSandbox makes a sandbox, number attempt; if it is false, sandboxID is
	// the ready one.
	createSandbox bool
	attempt       uint32
	sandboxID     string
	strays        []*actual.ContainerStatus // earlier attempts that somebody has started again
	kill          []killing                 // running containers to stop
	init          []*v1.Container           // init containers to start
	start         []*v1.Container           // regular containers to start
	resize        []*resizing               // running containers to give other limits
	ephemeral     []*v1.Container           // ephemeral containers to start
	targets       map[string]string         // ephemeral container to the container whose processes it sees
}

// killing is a container that must be stopped, and why.
type killing struct {
	status  *actual.ContainerStatus
	message string
	failed  actual.FailedProbe
	grace   *int64 // in seconds, from the failed probe; nil: the pod's
}

// verdicts are what the probes say of running containers, by ID. A nil function
// objects to none.
type verdicts struct {
	failed  func(actual.ContainerID) actual.FailedProbe // the one because of which it must be restarted, if any
	started func(actual.ContainerID) bool
	// resize returns the container's limits if it does not have those that it
	// should, and whether it must be restarted for them.
	resize func(*v1.Container, *actual.ContainerStatus) (r *resizing, restart bool)
}

// computeActions decides what brings the pod closer to its spec. It is a pure
// function of its arguments; SyncPod does what it says.
func computeActions(pod *v1.Pod, observed *actual.PodStatus, v verdicts) actions {
	a := actions{targets: map[string]string{}}
	if RestartsAll(pod, observed) {
		a.planReset(pod, observed)
		return a
	}
	a.createSandbox, a.attempt, a.sandboxID = sandboxAction(pod, observed)
	if a.createSandbox {
		a.killPod = true
		a.planNewSandbox(pod, observed)
		return a
	}
	a.strays = strays(observed)
	for i := range pod.Spec.EphemeralContainers {
		e := &pod.Spec.EphemeralContainers[i]
		if observed.Container(e.Name) == nil && !ephemeralRan(pod, e.Name) { // they are never restarted
			c := v1.Container(e.EphemeralContainerCommon)
			a.ephemeral = append(a.ephemeral, &c)
			a.targets[c.Name] = e.TargetContainerName
		}
	}
	if !a.planInit(pod, observed, v) {
		return a
	}
	a.planContainers(pod, observed, v)
	return a
}

// strays returns the running containers beside which a later attempt exists: the agent starts none
// before the one before it has ended, so somebody else has. Whatever the restart policy says, a
// container does not run twice at once, and its newest attempt is the one that counts.
func strays(observed *actual.PodStatus) []*actual.ContainerStatus {
	var list []*actual.ContainerStatus
	for _, s := range observed.Containers {
		if s.State == actual.StateRunning && s != observed.Container(s.Name) {
			list = append(list, s)
		}
	}
	return list
}

// planReset decides in which order the containers are removed: regular ones, init
// containers, and last, the containers that triggered the restart, so that an
// interrupted reset is detected and finished. Ephemeral containers stay.
func (a *actions) planReset(pod *v1.Pod, observed *actual.PodStatus) {
	var causes []*actual.ContainerStatus
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for _, s := range observed.Containers {
				switch {
				case s.Name != list[i].Name:
				case restartsAll(&list[i], s):
					causes = append(causes, s)
				default:
					a.reset = append(a.reset, s)
				}
			}
		}
	}
	a.reset = append(a.reset, causes...)
}

// sandboxAction reports whether a new sandbox is needed, its number, and the ID of
// the present one.
func sandboxAction(pod *v1.Pod, observed *actual.PodStatus) (create bool, attempt uint32, id string) {
	if len(observed.Sandboxes) == 0 {
		return true, 0, ""
	}
	newest := observed.Sandboxes[0]
	next := newest.GetMetadata().GetAttempt() + 1
	ready := 0
	for _, s := range observed.Sandboxes {
		if s.State == cri.PodSandboxState_SANDBOX_READY {
			ready++
		}
	}
	hostNetwork := newest.GetLinux().GetNamespaces().GetOptions().GetNetwork() == cri.NamespaceMode_NODE
	switch {
	case ready > 1, newest.State != cri.PodSandboxState_SANDBOX_READY:
		return true, next, newest.Id
	case hostNetwork != pod.Spec.HostNetwork:
		return true, next, ""
	case !pod.Spec.HostNetwork && newest.GetNetwork() != nil && newest.Network.Ip == "":
		// A runtime that says nothing of the network, though, gives no reason to try again.
		return true, next, newest.Id
	}
	return false, newest.GetMetadata().GetAttempt(), newest.Id
}

// SandboxReady reports whether the pod has the sandbox that it needs, with its network.
func SandboxReady(pod *v1.Pod, observed *actual.PodStatus) bool {
	create, _, _ := sandboxAction(pod, observed)
	return !create
}

// NeedsNetwork reports whether the next SyncPod would make a sandbox that is attached to the pod
// network. A pod that has its sandbox needs nothing of a network that is not ready.
func NeedsNetwork(pod *v1.Pod, observed *actual.PodStatus) bool {
	if pod.Spec.HostNetwork || SandboxReady(pod, observed) {
		return false
	}
	return computeActions(pod, observed, verdicts{}).createSandbox
}

// planNewSandbox decides what starts in a new sandbox: the first init container, or,
// without init containers, all containers that are not done. A pod that is done, or
// over, gets no sandbox.
func (a *actions) planNewSandbox(pod *v1.Pod, observed *actual.PodStatus) {
	var again []*v1.Container
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if runsAgain(pod, c, known(pod, c, observed)) {
			again = append(again, c)
		}
	}
	if len(again) == 0 || Over(pod, observed) {
		a.createSandbox = false
		return
	}
	if len(pod.Spec.InitContainers) == 0 {
		a.start = again
		return
	}
	// The init containers run again: what they prepared went with the old sandbox.
	a.init = []*v1.Container{&pod.Spec.InitContainers[0]}
}

// planInit decides which init container comes next and reports whether the regular
// containers may run: every init container has succeeded, and every sidecar has
// started once; if it has ended since, that delays nothing. Once a regular
// container exists, only sidecars are looked after.
func (a *actions) planInit(pod *v1.Pod, observed *actual.PodStatus, v verdicts) (done bool) {
	initialized := anyObservedIn(pod, observed, a.sandboxID)
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		s := inSandbox(observed.Container(c.Name), a.sandboxID)
		if pods.IsSidecar(c) {
			if started := a.planSidecar(c, s, v); !started && !initialized && !laterObserved(pod, observed, i, a.sandboxID) {
				return false
			}
			continue
		}
		if initialized {
			continue
		}
		later := laterObserved(pod, observed, i, a.sandboxID)
		if s == nil && !later && !mayRestart(pod, c) {
			// It must not run twice, so what is known of a run in an earlier
			// sandbox counts.
			s = known(pod, c, observed)
		}
		switch {
		case s == nil && later:
			// It has succeeded and its container was collected.
		case s == nil, s.State == actual.StateCreated:
			a.init = append(a.init, c)
			return false
		case s.State == actual.StateRunning:
			return false
		case s.State == actual.StateUnknown && mayRestart(pod, c):
			a.kill = append(a.kill, killing{status: s, message: fmt.Sprintf("Init container is in %q state, try killing it before restart", s.State)})
			a.init = append(a.init, c)
			return false
		case s.State == actual.StateExited && s.ExitCode == 0:
		case s.State == actual.StateExited && Restarts(pod, c, s.ExitCode):
			a.init = append(a.init, c)
			return false
		default:
			a.killPod = true // the pod has failed
			return false
		}
	}
	return true
}

// planSidecar keeps a sidecar running and reports whether it has started.
func (a *actions) planSidecar(c *v1.Container, s *actual.ContainerStatus, v verdicts) (started bool) {
	if s == nil || s.State != actual.StateRunning {
		if s != nil && s.State == actual.StateUnknown {
			a.kill = append(a.kill, killing{status: s, message: "Container is in an unknown state, will be restarted"})
		}
		a.init = append(a.init, c)
		return false
	}
	k := killing{status: s}
	if s.Hash != 0 && s.Hash != hashContainer(c) {
		k.message = fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)
	} else if k.failed = v.failedProbe(s.ID); k.failed != "" {
		k.message, k.grace = fmt.Sprintf("Init container %s failed %s probe, will be restarted", c.Name, k.failed), k.failed.GracePeriod(c)
	}
	if r, restart := v.resizeOf(c, s); k.message == "" && restart {
		k.message = fmt.Sprintf("Container %s resize requires restart", c.Name)
	} else if k.message == "" && r != nil {
		a.resize = append(a.resize, r)
	}
	if k.message != "" {
		a.kill = append(a.kill, k)
		a.init = append(a.init, c)
	}
	return v.started == nil || v.started(s.ID)
}

// planContainers decides which regular containers to start and to stop. When none
// runs and none will run again, the pod is at its end: what is left of it, sidecars
// and sandbox, is stopped.
func (a *actions) planContainers(pod *v1.Pod, observed *actual.PodStatus, v verdicts) {
	kept := 0
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		s := known(pod, c, observed)
		if s == nil || s.State != actual.StateRunning {
			again := runsAgain(pod, c, s)
			if again {
				a.start = append(a.start, c)
			}
			if s != nil && s.State == actual.StateUnknown {
				k := killing{status: s, message: "Container is in an unknown state"}
				if again {
					k.message += ", will be restarted"
				}
				a.kill = append(a.kill, k)
			}
			continue
		}
		k := killing{status: s}
		restart := true
		if s.Hash != 0 && s.Hash != hashContainer(c) {
			k.message = fmt.Sprintf("Container %s definition changed", c.Name)
		} else if k.failed = v.failedProbe(s.ID); k.failed != "" {
			k.message, k.grace = fmt.Sprintf("Container %s failed %s probe", c.Name, k.failed), k.failed.GracePeriod(c)
			restart = mayRestart(pod, c)
		} else if r, restarts := v.resizeOf(c, s); restarts {
			k.message = fmt.Sprintf("Container %s resize requires restart", c.Name)
		} else {
			if r != nil {
				a.resize = append(a.resize, r)
			}
			kept++
			continue
		}
		if restart {
			k.message += ", will be restarted"
			a.start = append(a.start, c)
		}
		a.kill = append(a.kill, k)
	}
	if kept == 0 && len(a.start) == 0 {
		a.killPod = true
		a.init = nil
	}
}

func (v verdicts) failedProbe(id actual.ContainerID) actual.FailedProbe {
	if v.failed == nil {
		return ""
	}
	return v.failed(id)
}

// runsAgain reports whether a regular container that does not run, or whose sandbox is
// going away, is started.
func runsAgain(pod *v1.Pod, c *v1.Container, s *actual.ContainerStatus) bool {
	switch {
	case pod.DeletionTimestamp != nil:
		return false
	case s == nil, s.State == actual.StateCreated:
		return true // it has not run yet
	case s.State == actual.StateExited:
		return Restarts(pod, c, s.ExitCode)
	}
	return mayRestart(pod, c)
}

// ephemeralRan reports whether an ephemeral container was ever started, according to
// the pod's status: the container itself may have been removed.
func ephemeralRan(pod *v1.Pod, name string) bool {
	for _, s := range pod.Status.EphemeralContainerStatuses {
		if s.Name == name {
			return s.ContainerID != ""
		}
	}
	return false
}

// anyObservedIn reports whether a regular container was ever made in the sandbox: then
// it has been initialised. A new sandbox is initialised anew.
func anyObservedIn(pod *v1.Pod, observed *actual.PodStatus, sandbox string) bool {
	for i := range pod.Spec.Containers {
		if inSandbox(observed.Container(pod.Spec.Containers[i].Name), sandbox) != nil {
			return true
		}
	}
	return false
}

// inSandbox returns the status if it belongs to that sandbox, else nil.
func inSandbox(s *actual.ContainerStatus, sandbox string) *actual.ContainerStatus {
	if s == nil || s.SandboxID != "" && s.SandboxID != sandbox {
		return nil
	}
	return s
}

// laterObserved reports whether an init container after number i exists in the
// sandbox: the one before it must have succeeded, or started if it is a sidecar.
func laterObserved(pod *v1.Pod, observed *actual.PodStatus, i int, sandbox string) bool {
	for _, c := range pod.Spec.InitContainers[i+1:] {
		if inSandbox(observed.Container(c.Name), sandbox) != nil {
			return true
		}
	}
	return false
}
