package podstatus

import (
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// The kubelet's reasons for conditions.
const (
	podCompleted          = "PodCompleted"
	podFailed             = "PodFailed"
	containersNotReady    = "ContainersNotReady"
	containersNotInit     = "ContainersNotInitialized"
	readinessGatesUnready = "ReadinessGatesNotReady"
)

// conditions makes the node's conditions of a pod, in the kubelet's order, and
// keeps those that others have set. A condition's transition time changes only with
// its status.
func conditions(in Input, s v1.PodStatus) []v1.PodCondition {
	ready := containersReady(in.Pod, s)
	ours := []v1.PodCondition{
		{Type: v1.PodReadyToStartContainers, Status: truth(in.Observed != nil && kuberuntime.SandboxReady(in.Pod, in.Observed))},
		initializedCondition(in.Pod, s),
		podReady(in.Pod, in.Old, ready),
		ready,
		{Type: v1.PodScheduled, Status: v1.ConditionTrue},
	}
	if mayRestartAll(in.Pod) {
		ours = append(ours, allRestarting(in, s.Phase))
	}
	ours = append(ours, in.Resize.conditions()...)
	for i := range ours {
		c := &ours[i]
		if c.Type != v1.AllContainersRestarting { // the kubelet sets none there
			c.ObservedGeneration = in.Pod.Generation
		}
		c.LastTransitionTime = metav1.Time{Time: in.Now.Truncate(time.Second)}
		if old := condition(in.Old, c.Type); old != nil && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	for _, old := range in.Old.Conditions {
		if ofResize(old.Type) {
			continue
		}
		if !slices.ContainsFunc(ours, func(c v1.PodCondition) bool { return c.Type == old.Type }) {
			ours = append(ours, old)
		}
	}
	return ours
}

func initializedCondition(pod *v1.Pod, s v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	var unknown, incomplete []string
	for _, i := range pod.Spec.InitContainers {
		switch st := pods.ContainerStatus(s.InitContainerStatuses, i.Name); {
		case st == nil:
			unknown = append(unknown, i.Name)
		case pods.IsSidecar(&i) && (st.Started == nil || !*st.Started), !pods.IsSidecar(&i) && !st.Ready:
			incomplete = append(incomplete, i.Name)
		}
	}
	switch {
	case s.Phase == v1.PodSucceeded && len(unknown) == 0:
		c.Reason = podCompleted
	case anyStarted(pod, s.ContainerStatuses):
	case len(unknown)+len(incomplete) > 0:
		c.Status, c.Reason, c.Message = v1.ConditionFalse, containersNotInit, listed("incomplete", unknown, incomplete)
	}
	return c
}

// allRestarting is true while containers are being removed in order to start again.
func allRestarting(in Input, phase v1.PodPhase) v1.PodCondition {
	c := v1.PodCondition{Type: v1.AllContainersRestarting, Status: v1.ConditionFalse}
	switch {
	case phase == v1.PodSucceeded:
		c.Reason = podCompleted
	case phase == v1.PodFailed:
		c.Reason = podFailed
	case kuberuntime.RestartsAll(in.Pod, in.Observed):
		c.Status, c.Reason, c.Message = v1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return c
}

func containersReady(pod *v1.Pod, s v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionTrue}
	var unknown, unready []string
	judge := func(name string, st *v1.ContainerStatus) {
		switch {
		case st == nil:
			unknown = append(unknown, name)
		case !st.Ready:
			unready = append(unready, name)
		}
	}
	for _, i := range pod.Spec.InitContainers {
		if pods.IsSidecar(&i) {
			judge(i.Name, pods.ContainerStatus(s.InitContainerStatuses, i.Name))
		}
	}
	for _, m := range pod.Spec.Containers {
		judge(m.Name, pods.ContainerStatus(s.ContainerStatuses, m.Name))
	}
	switch {
	case s.Phase == v1.PodSucceeded && len(unknown) == 0:
		c.Status, c.Reason = v1.ConditionFalse, podCompleted
	case s.Phase == v1.PodFailed && len(unknown) == 0:
		c.Status, c.Reason = v1.ConditionFalse, podFailed
	case len(unknown)+len(unready) > 0:
		c.Status, c.Reason, c.Message = v1.ConditionFalse, containersNotReady, listed("unready", unknown, unready)
	}
	return c
}

// podReady combines ContainersReady and the pod's readiness gates (KEP-580), whose
// conditions others set.
func podReady(pod *v1.Pod, old v1.PodStatus, containers v1.PodCondition) v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodReady, Status: containers.Status, Reason: containers.Reason, Message: containers.Message}
	if c.Status != v1.ConditionTrue {
		return c
	}
	for _, g := range pod.Spec.ReadinessGates {
		message := ""
		if gate := condition(old, g.ConditionType); gate == nil {
			message = fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType)
		} else if gate.Status != v1.ConditionTrue {
			message = fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", g.ConditionType, gate.Status)
		} else {
			continue
		}
		if c.Message != "" {
			c.Message += ", "
		}
		c.Status, c.Reason, c.Message = v1.ConditionFalse, readinessGatesUnready, c.Message+message
	}
	return c
}

func listed(what string, unknown, names []string) string {
	message := ""
	if len(unknown) > 0 {
		message = fmt.Sprintf("containers with unknown status: %s", unknown)
	}
	if len(names) > 0 {
		if message != "" {
			message += ", "
		}
		message += fmt.Sprintf("containers with %s status: %s", what, names)
	}
	return message
}

func condition(s v1.PodStatus, t v1.PodConditionType) *v1.PodCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

func truth(b bool) v1.ConditionStatus {
	if b {
		return v1.ConditionTrue
	}
	return v1.ConditionFalse
}
