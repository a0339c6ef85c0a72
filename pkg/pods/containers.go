package pods

import (
	"iter"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// ContainerKind says which list of the spec a container is in, and what it is for.
type ContainerKind int

// The kinds of containers. They start in this order, ephemeral ones whenever they are added.
const (
	InitContainer      ContainerKind = iota // runs to its end before the next one starts
	SidecarContainer                        // a restartable init container (KEP-753)
	RegularContainer                        // one of spec.containers
	EphemeralContainer                      // added to a running pod for debugging
)

// Label is what metrics call the kind; a sidecar is an init container there, as in the kubelet.
func (k ContainerKind) Label() string {
	switch k {
	case InitContainer, SidecarContainer:
		return "init_container"
	case EphemeralContainer:
		return "ephemeral_container"
	}
	return "container"
}

// Containers returns the init containers, sidecars and regular containers of a pod's
// spec in their order. The pointers lead into the pod.
func Containers(pod *v1.Pod) iter.Seq2[ContainerKind, *v1.Container] {
	return func(yield func(ContainerKind, *v1.Container) bool) {
		for i := range pod.Spec.InitContainers {
			c := &pod.Spec.InitContainers[i]
			kind := InitContainer
			if IsSidecar(c) {
				kind = SidecarContainer
			}
			if !yield(kind, c) {
				return
			}
		}
		for i := range pod.Spec.Containers {
			if !yield(RegularContainer, &pod.Spec.Containers[i]) {
				return
			}
		}
	}
}

// AllContainers returns what Containers does, and then the ephemeral containers. These
// are copies: changing one does not change the pod.
func AllContainers(pod *v1.Pod) iter.Seq2[ContainerKind, *v1.Container] {
	return func(yield func(ContainerKind, *v1.Container) bool) {
		for kind, c := range Containers(pod) {
			if !yield(kind, c) {
				return
			}
		}
		for i := range pod.Spec.EphemeralContainers {
			c := v1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			if !yield(EphemeralContainer, &c) {
				return
			}
		}
	}
}

// Container returns the container with that name and its kind, nil when the pod's spec has
// none or the pod is nil. An ephemeral one is a copy.
func Container(pod *v1.Pod, name string) (*v1.Container, ContainerKind) {
	if pod == nil {
		return nil, 0
	}
	for kind, c := range AllContainers(pod) {
		if c.Name == name {
			return c, kind
		}
	}
	return nil, 0
}

// ContainerStatus returns the status with that name, nil when the list has none.
func ContainerStatus(statuses []v1.ContainerStatus, name string) *v1.ContainerStatus {
	i := slices.IndexFunc(statuses, func(s v1.ContainerStatus) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &statuses[i]
}

// IsSidecar reports whether an init container is restartable (KEP-753).
func IsSidecar(init *v1.Container) bool {
	return init.RestartPolicy != nil && *init.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// IsInit reports whether an init container of the pod, restartable or not, has the name.
func IsInit(pod *v1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c v1.Container) bool { return c.Name == name })
}

// IsFinished reports whether a pod in that phase has run to its end: it no longer
// starts anything or needs anything.
func IsFinished(phase v1.PodPhase) bool {
	return phase == v1.PodSucceeded || phase == v1.PodFailed
}
