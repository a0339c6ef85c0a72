package pods

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Names of the sources, as they stand in the kubernetes.io/config.source annotation.
const (
	SourceFile = "file"
	SourceHTTP = "http"
	SourceAPI  = "api"
)

// Annotations that say where a static pod comes from, as the kubelet sets them.
const (
	AnnotationConfigSource = "kubernetes.io/config.source"
	AnnotationConfigHash   = "kubernetes.io/config.hash"
	AnnotationConfigSeen   = "kubernetes.io/config.seen"
	AnnotationConfigMirror = "kubernetes.io/config.mirror"
)

// IsStatic reports whether the pod came from a manifest rather than the API server.
func IsStatic(pod *v1.Pod) bool {
	s := pod.Annotations[AnnotationConfigSource]
	return s == SourceFile || s == SourceHTTP
}

// IsMirror reports whether the pod is an API server's image of a static pod.
func IsMirror(pod *v1.Pod) bool {
	_, ok := pod.Annotations[AnnotationConfigMirror]
	return ok
}

// SystemCriticalPriority is the lowest priority of the PriorityClasses
// system-*-critical.
const SystemCriticalPriority = 2_000_000_000

// IsCritical reports whether the node must not end the pod for the sake of others:
// because of its priority, or because nobody would start it elsewhere (the kubelet's
// rule).
func IsCritical(pod *v1.Pod) bool {
	return IsStatic(pod) || IsMirror(pod) || HasCriticalPriority(pod)
}

// HasCriticalPriority reports whether the pod's priority is one that is kept for the system
// (system-cluster-critical and above). A manifest may name one of these two classes alone: no
// API server fills in what it stands for.
func HasCriticalPriority(pod *v1.Pod) bool {
	if p := pod.Spec.Priority; p != nil {
		return *p >= SystemCriticalPriority
	}
	class := pod.Spec.PriorityClassName
	return IsStatic(pod) && (class == "system-cluster-critical" || class == "system-node-critical")
}

// NameOf returns the pod's namespace and name.
func NameOf(pod *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}
