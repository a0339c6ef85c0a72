// Package admission decides whether a pod may start on this node: whether the
// node is the one meant, can do what the pod asks, and has room beside the pods
// that are there. A pure function; the worker's caller asks it once, when a pod
// is new to the node. A pod that already runs is not asked about again, so an
// agent that restarts never rejects what it started.
package admission
