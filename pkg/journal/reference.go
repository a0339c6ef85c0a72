package journal

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Reference is the object that an event is about. A static pod's UID in the cluster
// is its hash: kubectl looks for a mirror pod's events under that.
func Reference(pod *v1.Pod, container string) *v1.ObjectReference {
	ref := &v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, FieldPath: fieldPath(pod, container),
	}
	if hash := pod.Annotations[pods.AnnotationConfigHash]; pods.IsStatic(pod) && hash != "" {
		ref.UID = types.UID(hash)
	}
	return ref
}

// fieldPath names a container of the pod, "" if the pod has none of that name.
func fieldPath(pod *v1.Pod, container string) string {
	if container == "" {
		return ""
	}
	c, kind := pods.Container(pod, container)
	switch {
	case c == nil:
		return ""
	case kind == pods.RegularContainer:
		return "spec.containers{" + container + "}"
	case kind == pods.EphemeralContainer:
		return "spec.ephemeralContainers{" + container + "}"
	}
	return "spec.initContainers{" + container + "}"
}
