package dockershim

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/logs"
)

// ContainerStatus shows one container. Of one that has ended, everything that it
// wrote stands in its log by then.
func (s *Server) ContainerStatus(ctx context.Context, req *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	r, err := s.inspect(ctx, "container_id", req.ContainerId, typeContainer)
	if err != nil {
		return nil, err
	}
	st := s.containerStatus(ctx, r)
	if st.State == cri.ContainerState_CONTAINER_EXITED {
		s.finishLog(ctx, r.ID)
	}
	resp := &cri.ContainerStatusResponse{Status: st}
	if req.Verbose {
		resp.Info = map[string]string{"info": marshal(map[string]any{
			"sandboxID": r.Config.Labels[labelSandboxID], "pid": r.State.Pid, "hostConfig": r.HostConfig, "driver": r.Driver,
		})}
	}
	return resp, nil
}

// finishLog completes the log of a container that has ended.
func (s *Server) finishLog(ctx context.Context, id string) {
	if err := s.logs.Finish(ctx, id); err != nil && !errors.Is(err, logs.ErrNotFollowed) && ctx.Err() == nil {
		klog.ErrorS(err, "Could not complete a container's log yet", "containerID", id)
	}
}

func (s *Server) containerStatus(ctx context.Context, r *container.InspectResponse) *cri.ContainerStatus {
	labels, annotations := criLabels(r.Config.Labels)
	created := parseTime(r.Created)
	id, _ := identityOf(r.Name, r.Config.Labels) // inspect has checked it
	st := &cri.ContainerStatus{
		Id: r.ID, Metadata: id.containerMetadata(), CreatedAt: createdAt(r.Config.Labels, created),
		Labels: labels, Annotations: annotations, LogPath: r.Config.Labels[labelLogPath],
		Image:    &cri.ImageSpec{Image: imageName(r.Config.Labels[labelImage], r.Config.Image), UserSpecifiedImage: r.Config.Labels[labelImage]},
		ImageRef: s.imageRefs.of(ctx, s.docker, r.Image), ImageId: r.Image,
		Resources: criResources(r.HostConfig), User: criUser(r), StopSignal: criSignal(r.Config.StopSignal),
	}
	setState(st, r.State)
	if st.ExitCode == exitKilled && s.view.outOfMemory(r.ID) {
		st.Reason = reasonOOM
	}
	images := map[string]imageVolume{}
	for _, v := range volumesOf(r.Config.Labels) {
		images[v.Path] = v
	}
	for _, m := range r.Mounts {
		v, isImage := images[m.Destination]
		switch {
		case isImage:
			st.Mounts = append(st.Mounts, &cri.Mount{ContainerPath: m.Destination, Readonly: true, ImageSubPath: v.SubPath,
				Image: &cri.ImageSpec{Image: v.ID, UserSpecifiedImage: v.Named, ImageRef: s.imageRefs.of(ctx, s.docker, v.ID)}})
		case m.Type == mount.TypeBind:
			st.Mounts = append(st.Mounts, criMount(m))
		}
	}
	return st
}

func imageName(asNamed, docker string) string {
	if asNamed != "" {
		return asNamed
	}
	return docker
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
	for crs, docker := range propagations {
		if docker == m.Propagation {
			out.Propagation = crs
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

// ListContainers lists containers, newest first.
func (s *Server) ListContainers(ctx context.Context, req *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	f := req.GetFilter()
	items, err := s.view.containers(ctx, f.GetLabelSelector()[labelPodUID])
	if err != nil {
		return nil, err
	}
	resp := &cri.ListContainersResponse{}
	for i := range items {
		it := &items[i]
		if it.sandbox || !matches(f.GetId(), it.id, f.GetLabelSelector(), it.labels) || !strings.HasPrefix(it.sandboxID, f.GetPodSandboxId()) {
			continue
		}
		if want := f.GetState(); want != nil && want.State != it.state.cri() {
			continue
		}
		name := imageName(it.image, it.dockerImage)
		resp.Containers = append(resp.Containers, &cri.Container{
			Id: it.id, PodSandboxId: it.sandboxID, Metadata: it.identity.containerMetadata(), State: it.state.cri(), CreatedAt: it.createdAt,
			Image: &cri.ImageSpec{Image: name, UserSpecifiedImage: it.image}, ImageRef: s.imageRefs.of(ctx, s.docker, it.imageID), ImageId: it.imageID,
			Labels: it.labels, Annotations: it.annotations,
		})
	}
	return resp, nil
}
