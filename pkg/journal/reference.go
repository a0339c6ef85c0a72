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

// ClaimReference is what an event about a claim refers to.
func ClaimReference(c *v1.PersistentVolumeClaim) *v1.ObjectReference {
	return &v1.ObjectReference{
		Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion,
	}
}

// VolumeReference is what an event about a persistent volume refers to.
func VolumeReference(pv *v1.PersistentVolume) *v1.ObjectReference {
	return &v1.ObjectReference{Kind: "PersistentVolume", APIVersion: "v1", Name: pv.Name, UID: pv.UID, ResourceVersion: pv.ResourceVersion}
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
