package cadvisor

import (
	"path"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// subject is something that metrics are about: a cgroup, and who it is.
type subject struct {
	labels
	kind    kind
	started time.Time // zero: as old as its cgroup
	// hostNetwork: the network that it sees is not its own.
	hostNetwork bool
}

// labels are those of every series. What does not apply is empty: all series of a family have
// the same labels.
type labels struct {
	id        string // path of its cgroup
	name      string // the container's ID at the runtime
	image     string
	container string
	pod       string
	namespace string
}

type kind int

const (
	podGroup  kind = iota // the cgroup of a pod
	sandbox               // the container that holds a pod's namespaces
	container             // one of the spec
)

// seen is what is known of a pod whose sandbox or containers run.
type seen struct {
	pod    *v1.Pod
	status v1.PodStatus
	actual *actual.Pod
	cgroup string   // "": it has none of its own, or it is not known
	below  []string // names of the cgroups in that one
}

// of returns the pod's subjects, and the IDs of what runs without a cgroup that is known.
func (s seen) of(sandboxImage string) (all []subject, unknown []subject) {
	base := subject{hostNetwork: s.pod.Spec.HostNetwork, labels: labels{pod: s.pod.Name, namespace: s.pod.Namespace}}
	if s.cgroup != "" {
		p := base
		p.kind, p.id = podGroup, s.cgroup
		all = append(all, p)
	}
	add := func(c subject, id string) {
		c.name = id
		if at := slices.IndexFunc(s.below, func(name string) bool { return id != "" && strings.Contains(name, id) }); at >= 0 {
			c.id = path.Join(s.cgroup, s.below[at])
			all = append(all, c)
		} else {
			unknown = append(unknown, c)
		}
	}
	for _, sb := range s.actual.Sandboxes {
		if sb.State == actual.StateRunning {
			c := base
			c.kind, c.image, c.started = sandbox, sandboxImage, sb.CreatedAt
			add(c, sb.ID)
		}
	}
	for _, ctr := range s.actual.Containers {
		if ctr.State == actual.StateRunning {
			c := base
			c.kind, c.container, c.started = container, ctr.Name, ctr.CreatedAt
			c.image, c.started = s.imageAndStart(ctr)
			add(c, ctr.ID)
		}
	}
	return all, unknown
}

// imageAndStart asks the pod's status, which may not know the container yet, then its spec.
func (s seen) imageAndStart(c actual.Container) (image string, started time.Time) {
	for _, list := range [][]v1.ContainerStatus{s.status.ContainerStatuses, s.status.InitContainerStatuses, s.status.EphemeralContainerStatuses} {
		for _, st := range list {
			if st.Name == c.Name && st.State.Running != nil && strings.HasSuffix(st.ContainerID, "://"+c.ID) {
				return st.Image, st.State.Running.StartedAt.Time
			}
		}
	}
	for _, list := range [][]v1.Container{s.pod.Spec.Containers, s.pod.Spec.InitContainers} {
		for _, spec := range list {
			if spec.Name == c.Name {
				return spec.Image, c.CreatedAt
			}
		}
	}
	for _, spec := range s.pod.Spec.EphemeralContainers {
		if spec.Name == c.Name {
			return spec.Image, c.CreatedAt
		}
	}
	return c.ImageID, c.CreatedAt
}
