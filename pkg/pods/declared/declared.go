// Package declared knows the features that this node declares in its status, and which of them a pod needs (KEP-5328).
// The scheduler and the API server go by the same rules, which are upstream's.
package declared

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"
)

// Features are those that the node declares: of those that the kubelet declares by default, the ones that this agent
// has, in the kubelet's order.
func Features() []string {
	return []string{"ExtendWebSocketsToKubelet", "RestartAllContainersOnContainerExits"}
}

// Missing says, in the kubelet's words, which features a pod needs to start here that the node does not declare; "" if
// there are none. release is the node's, such as "v1.37.2".
func Missing(pod *v1.Pod, release string) string {
	return missing(release, func(f *nodedeclaredfeatures.Framework, v *version.Version) (nodedeclaredfeatures.FeatureSet, error) {
		return f.InferForPodScheduling(info(pod), v)
	})
}

// MissingForUpdate is Missing for what a pod that is here has been changed to. A manifest that keeps its UID may come back
// with other init containers, which the API server does not allow and upstream's rules do not expect: they panic. That is
// a new pod and no resize, so that nothing is missing for it.
func MissingForUpdate(old, now *v1.Pod, release string) string {
	if len(old.Spec.InitContainers) != len(now.Spec.InitContainers) {
		return ""
	}
	return missing(release, func(f *nodedeclaredfeatures.Framework, v *version.Version) (nodedeclaredfeatures.FeatureSet, error) {
		return f.InferForPodUpdate(info(old), info(now), v)
	})
}

func info(pod *v1.Pod) *nodedeclaredfeatures.PodInfo {
	return &nodedeclaredfeatures.PodInfo{Spec: &pod.Spec, Status: &pod.Status}
}

func missing(release string, infer func(*nodedeclaredfeatures.Framework, *version.Version) (nodedeclaredfeatures.FeatureSet, error)) string {
	const failed = "Failed to match pod's feature requirements against the node: %v"
	v, err := version.Parse(release)
	if err != nil {
		return fmt.Sprintf(failed, err)
	}
	f := nodedeclaredfeatures.DefaultFramework
	needed, err := infer(f, v)
	if err != nil {
		return fmt.Sprintf("Failed to infer pod's feature requirements: %v", err)
	}
	match, err := f.MatchNodeFeatureSet(needed, f.TryMap(Features()))
	switch {
	case err != nil:
		return fmt.Sprintf(failed, err)
	case match.IsMatch:
		return ""
	}
	return "Pod requires node features that are not available: " + strings.Join(match.UnsatisfiedRequirements, ", ")
}
