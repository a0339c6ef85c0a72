package criconfig

import (
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podNamespaces returns which namespaces the pod shares with the node and which its
// containers share with each other.
func podNamespaces(pod *v1.Pod) *cri.NamespaceOption {
	o := &cri.NamespaceOption{
		Network: cri.NamespaceMode_POD,
		Ipc:     cri.NamespaceMode_POD,
		Pid:     cri.NamespaceMode_CONTAINER,
	}
	if pod.Spec.HostNetwork {
		o.Network = cri.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		o.Ipc = cri.NamespaceMode_NODE
	}
	switch share := pod.Spec.ShareProcessNamespace; {
	case pod.Spec.HostPID:
		o.Pid = cri.NamespaceMode_NODE
	case share != nil && *share:
		o.Pid = cri.NamespaceMode_POD
	}
	return o
}

// containerNamespaces returns the pod's namespaces, except that an ephemeral
// container with a target joins the target's process namespace.
func containerNamespaces(pod *v1.Pod, targetID string) *cri.NamespaceOption {
	o := podNamespaces(pod)
	if targetID != "" {
		o.Pid, o.TargetId = cri.NamespaceMode_TARGET, targetID
	}
	return o
}
