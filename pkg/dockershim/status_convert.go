package dockershim

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// sandboxMetadata names a sandbox in CRI's terms.
func sandboxMetadata(id docker.Identity) *cri.PodSandboxMetadata {
	return &cri.PodSandboxMetadata{Name: id.Pod, Namespace: id.Namespace, Uid: id.UID, Attempt: id.Attempt}
}

// containerMetadata names a container in CRI's terms.
func containerMetadata(id docker.Identity) *cri.ContainerMetadata {
	return &cri.ContainerMetadata{Name: id.Container, Attempt: id.Attempt}
}

// containerState is a container's state in CRI's terms.
func containerState(s docker.State) cri.ContainerState {
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

// What a kubelet knows of a container that was killed.
const (
	reasonOOM  = "OOMKilled"
	exitKilled = 137
)

// setState is how a container is, and, when it has ended, how and why.
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
		finished = started // Docker may note the start of what ends at once after its end
	}
	st.StartedAt, st.FinishedAt, st.ExitCode, st.Message = nanoseconds(started), nanoseconds(finished), int32(s.ExitCode), s.Error
	switch {
	case neverRan:
		// Docker tells 126 and 127 from other failures to start; a kubelet knows 128.
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

// criUser is known where the container was given numbers; a name stands for what
// its image says.
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
