// Package admission decides whether a pod may start on this node: whether the node
// is the one meant, can do what the pod asks, and has room beside the pods that are
// there. Admit is a pure function; Admitter adds what a pod is entitled to have to
// itself (see Allocator). The sync loop asks once, when a pod is new to the node. It does not ask
// about a pod that already runs, so a restarted agent never rejects what it
// started.
//
//	podfields  which fields of a pod's spec this node honours, and why not the others
//	resize     which resources a running pod has been given, of those that it asks for
package admission
