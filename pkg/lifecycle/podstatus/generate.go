// Package podstatus makes, stores and writes the API status of pods. Generate is
// pure: it turns what was observed at the runtime, with the pod's spec and its last
// status, into a v1.PodStatus as the kubelet of 1.37 would write it. Manager is the
// one store of published statuses; it lets no status go backwards. Writer PATCHes
// what has changed to the API server.
//
//	actual.PodStatus ──┐
//	pod spec ──────────┼─▶ Generate ─▶ Manager.Set ─▶ local API, API server
//	last status ───────┘
package podstatus

import (
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// Input is everything that a pod's API status is made from.
type Input struct {
	Pod      *v1.Pod           // with the resources that it has been given
	Observed *actual.PodStatus // nil before the runtime was first looked at
	Old      v1.PodStatus      // last status of this pod; zero if none
	// Waiting holds, per container name, why the last sync could not start it.
	Waiting map[string]actual.Waiting
	// Terminal is true once no container of the pod runs or may run again: the
	// phase is then Succeeded or Failed, whatever the policy says.
	Terminal bool
	HostIPs  []string // of the node, primary first
	Resize   Resize
	// Devices returns how the devices of a container are (KEP-4680); nil: none has any.
	Devices func(pod types.UID, container string) []v1.ResourceStatus
	// Started and Ready return what the probes say of a running container, by its
	// ID; nil means no probes: the container is started and ready as soon as it
	// runs.
	Started func(actual.ContainerID) bool
	Ready   func(actual.ContainerID) bool
	Now     time.Time
}

// Generate makes the pod's status. It modifies nothing that it is given.
func Generate(in Input) v1.PodStatus {
	pod := in.Pod
	if turnedAway(in) {
		s := *in.Old.DeepCopy()
		s.ObservedGeneration = pod.Generation
		return s
	}
	s := v1.PodStatus{
		ObservedGeneration:         pod.Generation,
		QOSClass:                   pods.QOSClass(pod),
		Message:                    in.Old.Message,
		Reason:                     in.Old.Reason,
		NominatedNodeName:          in.Old.NominatedNodeName,
		Resize:                     in.Old.Resize,
		StartTime:                  startTime(in),
		AllocatedResources:         resource.PodRequests(pod, resource.PodResourcesOptions{}),
		Resources:                  applied(in),
		InitContainerStatuses:      containerStatuses(in, initContainers(pod), in.Old.InitContainerStatuses, initDefault),
		ContainerStatuses:          containerStatuses(in, pod.Spec.Containers, in.Old.ContainerStatuses, mainDefault(pod)),
		EphemeralContainerStatuses: containerStatuses(in, ephemeralContainers(pod), in.Old.EphemeralContainerStatuses, mainDefault(pod)),
	}
	if in.Devices != nil { // as in the kubelet, init containers do not say it
		for i := range s.ContainerStatuses {
			s.ContainerStatuses[i].AllocatedResourcesStatus = in.Devices(pod.UID, s.ContainerStatuses[i].Name)
		}
	}
	if s.Reason == WaitingForRoom {
		s.Reason, s.Message = "", "" // it has room now
	}
	if in.Terminal {
		locateLost(pod, &s)
	}
	// A pod that has failed or succeeded stays so.
	switch in.Old.Phase {
	case v1.PodFailed, v1.PodSucceeded:
		s.Phase = in.Old.Phase
	default:
		s.Phase = phase(pod, s.InitContainerStatuses, s.ContainerStatuses, in.Terminal)
		if overdue(pod, &s, in.Now) {
			s.Phase, s.Reason, s.Message = v1.PodFailed, DeadlineExceeded, DeadlineExceededMessage
		}
	}
	limitMessages(pod, &s)
	setIPs(in, &s)
	s.Conditions = conditions(in, s)
	return s
}

// turnedAway reports whether the pod was over before it had begun, through admission
// or through somebody at the API server: there is nothing to report of its
// containers.
func turnedAway(in Input) bool {
	none := in.Observed == nil || len(in.Observed.Containers)+len(in.Observed.Sandboxes) == 0
	return none && pods.IsFinished(in.Old.Phase) && len(in.Old.InitContainerStatuses)+len(in.Old.ContainerStatuses) == 0
}

// maxMessages is how many bytes the termination messages of a pod's containers may
// take together, as in the kubelet.
const maxMessages = 12 << 10

// maxWaiting is how many bytes the messages about why a pod's containers wait may take
// together. A runtime quotes commands there. A status larger than the API server
// accepts could never be written, and then the pod, once deleted, never be removed.
const maxWaiting = 128 << 10

// limitMessages gives each container its share of the room for termination messages,
// and of that for waiting messages.
func limitMessages(pod *v1.Pod, s *v1.PodStatus) {
	containers := max(1, len(pod.Spec.Containers)+len(pod.Spec.InitContainers)+len(pod.Spec.EphemeralContainers))
	share, waiting := maxMessages/containers, maxWaiting/containers
	cut := func(state *v1.ContainerState) {
		if t := state.Terminated; t != nil && len(t.Message) > share {
			shorter := *t // the observed or published one is not ours to change
			shorter.Message = strings.ToValidUTF8(t.Message[:share], "")
			state.Terminated = &shorter
		}
		if w := state.Waiting; w != nil && len(w.Message) > waiting {
			shorter := *w
			shorter.Message = strings.ToValidUTF8(w.Message[:waiting], "")
			state.Waiting = &shorter
		}
	}
	for _, list := range [][]v1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			cut(&list[i].State)
			cut(&list[i].LastTerminationState)
		}
	}
}

// setIPs sets the addresses. A pod on the host's network has the host's, from the beginning.
func setIPs(in Input, s *v1.PodStatus) {
	for _, ip := range in.HostIPs {
		s.HostIPs = append(s.HostIPs, v1.HostIP{IP: ip})
	}
	if len(in.HostIPs) > 0 {
		s.HostIP = in.HostIPs[0]
	}
	var ips []string
	switch {
	case in.Pod.Spec.HostNetwork:
		ips = in.HostIPs
	case in.Observed != nil:
		ips = in.Observed.IPs
	}
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, v1.PodIP{IP: ip})
	}
	if len(s.PodIPs) == 0 && (pods.IsFinished(s.Phase) || in.Terminal) {
		s.PodIPs = in.Old.PodIPs // the last addresses of a pod that is done stay readable
	}
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
}

// locateLost gives every container of a pod that has ended a terminated state. A
// container that the runtime no longer has, or that never started although the pod
// had been initialised, counts as failed.
func locateLost(pod *v1.Pod, s *v1.PodStatus) {
	lost := v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
		Reason: reasonUnknown, ExitCode: kuberuntime.ExitUnknown,
		Message: "The container could not be located when the pod was terminated",
	}}
	end := func(c *v1.ContainerStatus) {
		switch {
		case c.State.Terminated != nil:
		case c.LastTerminationState.Terminated != nil && c.State.Waiting != nil:
			// It waited for its next start, which will never come.
			c.State, c.LastTerminationState = c.LastTerminationState, v1.ContainerState{}
		default:
			c.State = lost
		}
		c.Ready = false
		no := false
		c.Started = &no
	}
	if initialized(pod, s.InitContainerStatuses, s.ContainerStatuses) {
		for i := range s.ContainerStatuses {
			end(&s.ContainerStatuses[i])
		}
	}
	// Init containers after the last one that has started never ran.
	last := -1
	for i, c := range s.InitContainerStatuses {
		if c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil {
			last = i
		}
	}
	for i := range s.InitContainerStatuses[:last+1] {
		ready := s.InitContainerStatuses[i].Ready && s.InitContainerStatuses[i].State.Terminated != nil
		end(&s.InitContainerStatuses[i])
		s.InitContainerStatuses[i].Ready = ready
	}
}

func initContainers(pod *v1.Pod) []v1.Container { return pod.Spec.InitContainers }

func ephemeralContainers(pod *v1.Pod) []v1.Container {
	var cs []v1.Container
	for _, c := range pod.Spec.EphemeralContainers {
		cs = append(cs, v1.Container(c.EphemeralContainerCommon))
	}
	return cs
}
