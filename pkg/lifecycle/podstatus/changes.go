package podstatus

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Changes says in words how a status differs from the one before: phase, conditions, containers, addresses. Messages are not
// repeated. Pure.
func Changes(old, now v1.PodStatus) string {
	var c changes
	c.note("phase", string(old.Phase), string(now.Phase))
	c.note("reason", old.Reason, now.Reason)
	for _, is := range now.Conditions {
		var was v1.PodCondition
		if before := condition(old, is.Type); before != nil {
			was = *before
		}
		c.note(string(is.Type), string(was.Status), join(string(is.Status), is.Reason, was.Reason))
	}
	for _, list := range [][2][]v1.ContainerStatus{
		{old.InitContainerStatuses, now.InitContainerStatuses}, {old.ContainerStatuses, now.ContainerStatuses}, {old.EphemeralContainerStatuses, now.EphemeralContainerStatuses},
	} {
		for i := range list[1] {
			is := &list[1][i]
			was := pods.ContainerStatus(list[0], is.Name)
			c.note(is.Name, shownState(was), shownState(is))
		}
	}
	if old.PodIP != now.PodIP {
		c.note("podIP", old.PodIP, now.PodIP)
	}
	return strings.Join(c, ", ")
}

// maxChanges bounds what is said of a pod with many containers.
const maxChanges = 20

type changes []string

func (c *changes) note(what, was, is string) {
	switch {
	case was == is || len(*c) > maxChanges:
	case len(*c) == maxChanges:
		*c = append(*c, "…")
	case was == "":
		*c = append(*c, what+" "+is)
	default:
		*c = append(*c, what+" "+was+" → "+is)
	}
}

// join adds the reason if it is another one.
func join(status, reason, before string) string {
	if reason == "" || reason == before {
		return status
	}
	return status + " (" + reason + ")"
}

func shownState(s *v1.ContainerStatus) string {
	switch {
	case s == nil:
		return ""
	case s.State.Running != nil:
		text := "running"
		if s.Ready {
			text += " and ready"
		}
		return text
	case s.State.Terminated != nil:
		return fmt.Sprintf("terminated (%s, exit %d)", s.State.Terminated.Reason, s.State.Terminated.ExitCode)
	case s.State.Waiting != nil:
		return "waiting (" + s.State.Waiting.Reason + ")"
	}
	return ""
}
