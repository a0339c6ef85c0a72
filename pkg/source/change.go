// Package source says which pods are wanted on this node. Each source (file or
// directory, URL, API server) reports whole snapshots; the Mux compares a
// snapshot with what that source last wanted and emits only what changed, as
// one ordered stream that the sync loop reads:
//
//	file ─┐ Snapshot          Change
//	http ─┼──────────▶ Mux ──────────▶ loop
//	api  ─┘             └─ Objects ──▶ podobjects.Local, on a standalone node
//
// What a manifest means is the room manifest's: pods and objects leave it validated, and
// defaulted as by the API server.
package source

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

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
	// Cause is the look that gave it, in the journal; Causes are those of single pods, where they have their own.
	Cause  uint64
	Causes map[types.UID]uint64
}

// Change is a step of the merged stream. For a source whose first snapshot is empty,
// an Add without pods is sent once: it tells the loop that the source has spoken. The
// pods belong to the receiver, and nobody may modify them in place.
type Change struct {
	Op     Op
	Source string
	Pods   []*v1.Pod
	Cause  uint64 // the Snapshot's
	Causes map[types.UID]uint64
}

// Because returns the look that has changed a pod, in the journal.
func (c Change) Because(uid types.UID) uint64 {
	if cause, has := c.Causes[uid]; has {
		return cause
	}
	return c.Cause
}
