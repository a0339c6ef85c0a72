// Package image makes sure that a container's image is on the node before the
// container is created. Package kuberuntime is the caller, one call a container:
//
//	Ensure ─ name valid? ─ policy ─ present? ─ the pod's to use? ─▶ image reference
//	                          └─ back-off over? ─ credentials ─ pull ─▶
//
// Callers that want the same image share one pull, which continues as long as one
// of them waits. A pull delays nobody whose image is present. If an image cannot be
// had, the Error has the kubelet's waiting reason and the time to try again.
// keyring finds credentials, provider asks plug-ins for them, and record keeps by
// whose credentials an image was pulled; collect removes images that nobody uses.
package image
