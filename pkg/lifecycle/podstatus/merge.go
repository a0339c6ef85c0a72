package podstatus

import (
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// ownConditions are the conditions that only the kubelet writes.
var ownConditions = []v1.PodConditionType{
	v1.PodReadyToStartContainers, v1.PodInitialized, v1.PodReady, v1.ContainersReady, v1.PodScheduled,
	v1.PodResizePending, v1.PodResizeInProgress, v1.AllContainersRestarting,
}

// Own reports whether a condition is the node's to write.
func Own(t v1.PodConditionType) bool { return slices.Contains(ownConditions, t) }

// ofResize reports whether a condition exists only while a resize is under way: the
// node removes it by leaving it out.
func ofResize(t v1.PodConditionType) bool {
	return t == v1.PodResizePending || t == v1.PodResizeInProgress
}

// ours reports whether a condition in the node's own status of a pod was set by the
// node, not read from the API server. DisruptionTarget is shared: whoever evicts a
// pod sets it, and may remove it.
func ours(c v1.PodCondition) bool {
	return Own(c.Type) || c.Type == v1.DisruptionTarget && c.Reason == v1.PodReasonTerminationByKubelet
}

// Merge returns what the API server's status of a pod should be, given what it is
// and what the node knows. Fields and conditions of others stay as they are,
// nothing goes backwards, and a pod is not over while one of its containers runs
// (KEP-3329).
func Merge(pod *v1.Pod, api, node v1.PodStatus) v1.PodStatus {
	s := *node.DeepCopy()
	before := api
	switch {
	case !pods.IsFinished(api.Phase):
	case pods.IsStatic(pod):
		before.Phase = node.Phase // what others write into a mirror pod ends nothing
	case node.Phase != api.Phase:
		s.Reason, s.Message = api.Reason, api.Message // of the end that counts
	}
	forwards(pod, before, &s)
	s.Conditions = mergeConditions(api.Conditions, s.Conditions)
	s.NominatedNodeName = api.NominatedNodeName
	s.Resize = api.Resize // deprecated; the conditions say it
	s.ResourceClaimStatuses = api.ResourceClaimStatuses
	s.ExtendedResourceClaimStatus = api.ExtendedResourceClaimStatus
	s.NodeAllocatableResourceClaimStatuses = api.NodeAllocatableResourceClaimStatuses
	s.VolumeHealth = api.VolumeHealth // of CSIVolumeHealth, which is alpha
	if api.QOSClass != "" {
		s.QOSClass = api.QOSClass // immutable
	}
	if pods.IsFinished(s.Phase) && !pods.IsFinished(api.Phase) && anyRuns(s) {
		s.Phase = api.Phase
		if s.Phase == "" {
			s.Phase = v1.PodPending
		}
		s.Reason, s.Message = api.Reason, api.Message
	}
	return s
}

// mergeConditions keeps the conditions that others have set, takes the node's own,
// and keeps the time of a transition that the API server already knows.
func mergeConditions(api, node []v1.PodCondition) []v1.PodCondition {
	var out []v1.PodCondition
	for _, c := range node {
		if !ours(c) {
			continue
		}
		if i := index(api, c.Type); i >= 0 && api[i].Status == c.Status && !api[i].LastTransitionTime.IsZero() {
			c.LastTransitionTime = api[i].LastTransitionTime
			c.LastProbeTime = api[i].LastProbeTime
		}
		out = append(out, c)
	}
	for _, c := range api {
		if index(out, c.Type) < 0 && !ofResize(c.Type) {
			out = append(out, c)
		}
	}
	return out
}

// WithForeign returns a status with what others have set at the API server: their
// conditions as they are now, since readiness gates are read from those, and the end of
// a pod, which is not theirs to take back once it was said. A static pod is not ended
// that way: its object there is an image of it.
func WithForeign(pod *v1.Pod, s, api v1.PodStatus) v1.PodStatus {
	if !pods.IsStatic(pod) && pods.IsFinished(api.Phase) && !pods.IsFinished(s.Phase) {
		s.Phase, s.Reason, s.Message = api.Phase, api.Reason, api.Message
	}
	var out []v1.PodCondition
	for _, c := range s.Conditions {
		if ours(c) {
			out = append(out, c)
		}
	}
	for _, c := range api.Conditions {
		if !Own(c.Type) && index(out, c.Type) < 0 {
			out = append(out, c)
		}
	}
	s.Conditions = out
	return s
}

// OfMirror returns what is to be believed of the status that a mirror pod has when the agent
// starts. An end counts that says of a container that it has ended, and of none that it runs: so
// that what may run once only does not run twice. Any other is somebody else's, or that of a pod
// that was turned away, and which is to be judged again. A pod that the node has ended for
// the sake of others, by a shutdown of the machine for instance, starts again, since nobody else
// makes another one; unless it may run once only.
func OfMirror(pod *v1.Pod, api v1.PodStatus) v1.PodStatus {
	if !pods.IsFinished(api.Phase) {
		return api
	}
	if i := index(api.Conditions, v1.DisruptionTarget); i >= 0 && ours(api.Conditions[i]) && pod.Spec.RestartPolicy != v1.RestartPolicyNever {
		api.Conditions = slices.Delete(slices.Clone(api.Conditions), i, i+1)
		api.Phase, api.Reason, api.Message = "", "", ""
		return api
	}
	ended := slices.ContainsFunc(slices.Concat(api.InitContainerStatuses, api.ContainerStatuses),
		func(c v1.ContainerStatus) bool { return c.State.Terminated != nil })
	if anyRuns(api) || !ended {
		api.Phase, api.Reason, api.Message = "", "", ""
	}
	return api
}

func index(cs []v1.PodCondition, t v1.PodConditionType) int {
	return slices.IndexFunc(cs, func(c v1.PodCondition) bool { return c.Type == t })
}

func anyRuns(s v1.PodStatus) bool {
	for _, list := range [][]v1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.State.Running != nil {
				return true
			}
		}
	}
	return false
}
