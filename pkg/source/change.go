// Package source says which pods are wanted on this node. Each source (file or
// directory, URL, API server) reports whole snapshots; the Mux compares a
// snapshot with what that source last wanted and emits only what changed, as
// one ordered stream that the sync loop reads:
//
//	file ─┐ Snapshot          Change
//	http ─┼──────────▶ Mux ──────────▶ loop
//	api  ─┘             └─ Objects ──▶ podobjects.Local, on a standalone node
//
// Pods and objects leave this package validated, and defaulted as by the API server.
package source

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names of the sources, as in the kubernetes.io/config.source annotation.
const (
	File = "file"
	HTTP = "http"
	API  = "api"
)

// Annotations that say where a static pod comes from, as the kubelet sets them.
const (
	AnnotationSource = "kubernetes.io/config.source"
	AnnotationHash   = "kubernetes.io/config.hash"
	AnnotationSeen   = "kubernetes.io/config.seen"
	AnnotationMirror = "kubernetes.io/config.mirror"
)

// IsStatic reports whether the pod came from a manifest rather than the API server.
func IsStatic(pod *v1.Pod) bool {
	s := pod.Annotations[AnnotationSource]
	return s == File || s == HTTP
}

// IsMirror reports whether the pod is the API server's image of a static pod.
func IsMirror(pod *v1.Pod) bool {
	_, ok := pod.Annotations[AnnotationMirror]
	return ok
}

// systemCriticalPriority is the lowest priority of the PriorityClasses
// system-*-critical.
const systemCriticalPriority = 2_000_000_000

// IsCritical reports whether the node must not end the pod for the sake of others:
// because of its priority, or because nobody would create it again elsewhere (the
// kubelet's rule).
func IsCritical(pod *v1.Pod) bool {
	return IsStatic(pod) || IsMirror(pod) || pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCriticalPriority
}

// Op is what happened to the pods of a Change.
type Op int

// The five operations of the kubelet's configuration channel.
const (
	Add       Op = iota // not wanted before
	Update              // spec, labels, annotations or deletion grace changed
	Remove              // no longer wanted by its source
	Reconcile           // only the status at the API server changed
	Delete              // gained a deletionTimestamp: terminate gracefully
)

// String returns the kubelet's name for the operation, e.g. "ADD".
func (o Op) String() string {
	if o < Add || o > Delete {
		return "UNKNOWN"
	}
	return [...]string{"ADD", "UPDATE", "REMOVE", "RECONCILE", "DELETE"}[o]
}

// Snapshot is everything that one source wants now.
type Snapshot struct {
	Source string
	Pods   []*v1.Pod
	// Objects are the *v1.ConfigMap, *v1.Secret, *v1.PersistentVolume and
	// *v1.PersistentVolumeClaim that a manifest has beside pods. They are not changed
	// afterwards.
	Objects []metav1.Object
}

// Change is a step of the merged stream. For a source whose first snapshot is empty,
// an Add without pods is sent once: it tells the loop that the source has spoken. The
// pods belong to the receiver, and nobody may modify them in place.
type Change struct {
	Op     Op
	Source string
	Pods   []*v1.Pod
}
