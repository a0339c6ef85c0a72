// Package runtime is the wing between a pod's worker and the container runtime: one pod to
// CRI calls. It has no code of its own; its rooms are:
//
//	kuberuntime  decides what must be killed, created and started, and does it
//	criconfig    a pod's spec as CRI configurations: pure translation
//	criclient    the CRI client: connections, deadlines, metrics
//	image        images on the node: pulling, credentials, records; later garbage collection
//	hooks        postStart and preStop
//	httpget      the request of an httpGet, for probes and hooks
package runtime
