// Package podfields says for every field of a pod's spec what this node does with
// it: it is honoured, refused with a reason, or not a node's business. No field is
// silently ignored.
//
//	table.go ──▶ Refused(pod, node)   for source (validation) and admission
//	        └──▶ docs/pod-fields.md   by go test ./pkg/admission/podfields -update
//
// A test walks v1.PodSpec by reflection: a field of a later API release without
// a verdict fails it, and until then a pod that sets one is refused.
package podfields
