package convert

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// SandboxMetadata names a sandbox in CRI's terms.
func SandboxMetadata(id docker.Identity) *cri.PodSandboxMetadata {
	return &cri.PodSandboxMetadata{Name: id.Pod, Namespace: id.Namespace, Uid: id.UID, Attempt: id.Attempt}
}

// ContainerMetadata names a container in CRI's terms.
func ContainerMetadata(id docker.Identity) *cri.ContainerMetadata {
	return &cri.ContainerMetadata{Name: id.Container, Attempt: id.Attempt}
}

// ContainerState is a container's state in CRI's terms.
func ContainerState(s docker.State) cri.ContainerState {
	switch s {
	case docker.StateCreated:
		return cri.ContainerState_CONTAINER_CREATED
	case docker.StateRunning:
		return cri.ContainerState_CONTAINER_RUNNING
	case docker.StateExited:
		return cri.ContainerState_CONTAINER_EXITED
	}
	return cri.ContainerState_CONTAINER_UNKNOWN
}

// imageName is the name of a container's image: as the client gave it, else as Docker does.
func imageName(given, listed string) string {
	if given != "" {
		return given
	}
	return listed
}

// ContainerStatus is the status of an inspected container, which must be ours; imageRef
// returns the reference of an image by its ID.
func ContainerStatus(r *container.InspectResponse, imageRef func(id string) string) *cri.ContainerStatus {
	labels, annotations := docker.SplitLabels(r.Config.Labels)
	id, _ := docker.IdentityOf(r.Name, r.Config.Labels) // every container of ours has one
	given := r.Config.Labels[docker.LabelImage]
	st := &cri.ContainerStatus{
		Id: r.ID, Metadata: ContainerMetadata(id), CreatedAt: docker.CreatedAt(r.Config.Labels, parseTime(r.Created)),
		Labels: labels, Annotations: annotations, LogPath: r.Config.Labels[docker.LabelLogPath],
		Image:    &cri.ImageSpec{Image: imageName(given, r.Config.Image), UserSpecifiedImage: given},
		ImageRef: imageRef(r.Image), ImageId: r.Image,
		Resources: criResources(r.HostConfig), User: criUser(r), StopSignal: criSignal(r.Config.StopSignal),
	}
	setState(st, r.State)
	images := map[string]docker.ImageVolume{}
	for _, v := range docker.ImageVolumesOf(r.Config.Labels) {
		images[v.Path] = v
	}
	for _, m := range r.Mounts {
		v, isImage := images[m.Destination]
		switch {
		case isImage:
			st.Mounts = append(st.Mounts, &cri.Mount{ContainerPath: m.Destination, Readonly: true, ImageSubPath: v.SubPath,
				Image: &cri.ImageSpec{Image: v.ID, UserSpecifiedImage: v.Named, ImageRef: imageRef(v.ID)}})
		case m.Type == mount.TypeBind:
			st.Mounts = append(st.Mounts, criMount(m))
		}
	}
	return st
}

// How a kubelet recognizes a container that was killed.
const (
	reasonOOM  = "OOMKilled"
	exitKilled = 137
)

// OutOfMemory sets the reason of a container in which the kernel killed for lack of memory.
// Docker forgets the reason when a container ends before Docker has noted its start.
func OutOfMemory(st *cri.ContainerStatus) {
	if st.ExitCode == exitKilled {
		st.Reason = reasonOOM
	}
}

// ListedContainer is a container in a list; imageRef returns the reference of an image by its
// ID.
func ListedContainer(it *docker.Item, imageRef func(id string) string) *cri.Container {
	return &cri.Container{
		Id: it.ID, PodSandboxId: it.SandboxID, Metadata: ContainerMetadata(it.Identity), State: ContainerState(it.State), CreatedAt: it.CreatedAt,
		Image:    &cri.ImageSpec{Image: imageName(it.Image, it.DockerImage), UserSpecifiedImage: it.Image},
		ImageRef: imageRef(it.ImageID), ImageId: it.ImageID, Labels: it.Labels, Annotations: it.Annotations,
	}
}

// SandboxStatus is the status of an inspected sandbox, which must be ours. ips are its
// addresses, the primary one first.
func SandboxStatus(r *container.InspectResponse, ready bool, ips []string) *cri.PodSandboxStatus {
	labels, annotations := docker.SplitLabels(r.Config.Labels)
	created, _ := time.Parse(time.RFC3339Nano, r.Created)
	id, _ := docker.IdentityOf(r.Name, r.Config.Labels) // every container of ours has one
	st := &cri.PodSandboxStatus{
		Id: r.ID, Metadata: SandboxMetadata(id), State: sandboxState(ready), CreatedAt: docker.CreatedAt(r.Config.Labels, created),
		Labels: labels, Annotations: annotations, RuntimeHandler: r.Config.Labels[docker.LabelHandler],
		Linux:   &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{Options: sandboxNamespaces(r)}},
		Network: &cri.PodSandboxNetworkStatus{},
	}
	for i, ip := range ips {
		if i == 0 {
			st.Network.Ip = ip
			continue
		}
		st.Network.AdditionalIps = append(st.Network.AdditionalIps, &cri.PodIP{Ip: ip})
	}
	return st
}

// ListedSandbox is a sandbox in a list.
func ListedSandbox(it *docker.Item, ready bool) *cri.PodSandbox {
	return &cri.PodSandbox{
		Id: it.ID, Metadata: SandboxMetadata(it.Identity), State: sandboxState(ready), CreatedAt: it.CreatedAt,
		Labels: it.Labels, Annotations: it.Annotations, RuntimeHandler: it.Handler,
	}
}

func sandboxState(ready bool) cri.PodSandboxState {
	if ready {
		return cri.PodSandboxState_SANDBOX_READY
	}
	return cri.PodSandboxState_SANDBOX_NOTREADY
}

// setState sets the state, and for a container that has ended, how and why it ended.
func setState(st *cri.ContainerStatus, s *container.State) {
	started, finished := parseTime(s.StartedAt), parseTime(s.FinishedAt)
	neverRan := started.IsZero()
	switch {
	case s.Running || s.Paused || s.Restarting:
		st.State = cri.ContainerState_CONTAINER_RUNNING
		st.StartedAt = nanoseconds(started)
		return
	case neverRan && s.ExitCode == 0 && s.Error == "":
		st.State = cri.ContainerState_CONTAINER_CREATED
		return
	}
	st.State = cri.ContainerState_CONTAINER_EXITED
	if finished.Before(started) {
		finished = started // when a container ends at once, Docker may note its end before its start
	}
	st.StartedAt, st.FinishedAt, st.ExitCode, st.Message = nanoseconds(started), nanoseconds(finished), int32(s.ExitCode), s.Error
	switch {
	case neverRan:
		// Docker has 126 and 127 for some failures to start; a kubelet knows 128.
		st.ExitCode, st.Reason = 128, "ContainerCannotRun"
		if finished.IsZero() {
			st.FinishedAt = st.CreatedAt
		}
		st.StartedAt = st.CreatedAt
	case s.OOMKilled:
		st.Reason = reasonOOM
	case s.ExitCode == 0:
		st.Reason = "Completed"
	default:
		st.Reason = "Error"
	}
}

func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func criMount(m container.MountPoint) *cri.Mount {
	out := &cri.Mount{ContainerPath: m.Destination, HostPath: m.Source, Readonly: !m.RW}
	for asked, given := range propagations {
		if given == m.Propagation {
			out.Propagation = asked
		}
	}
	return out
}

// criUser converts the user of a container back, if it was given as numbers. Only the image
// knows what a name means.
func criUser(r *container.InspectResponse) *cri.ContainerUser {
	who, group, hasGroup := strings.Cut(r.Config.User, ":")
	uid, err := strconv.ParseInt(who, 10, 64)
	if who == "" {
		uid, err = 0, nil
	}
	if err != nil {
		return nil
	}
	u := &cri.LinuxContainerUser{Uid: uid}
	if hasGroup {
		if u.Gid, err = strconv.ParseInt(group, 10, 64); err != nil {
			return nil
		}
	}
	u.SupplementalGroups = append(u.SupplementalGroups, u.Gid)
	for _, g := range r.HostConfig.GroupAdd {
		if n, err := strconv.ParseInt(g, 10, 64); err == nil && n != u.Gid {
			u.SupplementalGroups = append(u.SupplementalGroups, n)
		}
	}
	return &cri.ContainerUser{Linux: u}
}

func sandboxNamespaces(r *container.InspectResponse) *cri.NamespaceOption {
	n := &cri.NamespaceOption{Pid: cri.NamespaceMode(cri.NamespaceMode_value[r.Config.Labels[docker.LabelPIDMode]])}
	if r.HostConfig.NetworkMode.IsHost() {
		n.Network = cri.NamespaceMode_NODE
	}
	if r.HostConfig.IpcMode.IsHost() {
		n.Ipc = cri.NamespaceMode_NODE
	}
	return n
}
