// Package image sees to it that a container's image is on the node before the
// container is created. Package runtime is the caller, one call a container:
//
//	Ensure ─ name valid? ─ policy ─ present? ─ the pod's to use? ─▶ image reference
//	                          └─ back-off over? ─ credentials ─ pull ─▶
//
// Callers that want the same image share one pull, which goes on as long as one
// of them waits. A pull holds up nobody whose image is present. What cannot be
// had is an Error with the kubelet's waiting reason and the time to try again.
package image
