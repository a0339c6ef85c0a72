package dockershim

import (
	"context"
	"errors"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/logs"
)

// ContainerStatus shows one container. Of one that has ended, everything that it
// wrote stands in its log by then.
func (s *Server) ContainerStatus(ctx context.Context, req *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	r, err := s.inspect(ctx, "container_id", req.ContainerId, docker.TypeContainer)
	if err != nil {
		return nil, err
	}
	st := s.containerStatus(ctx, r)
	if st.State == cri.ContainerState_CONTAINER_EXITED {
		s.finishLog(ctx, r.ID)
	}
	resp := &cri.ContainerStatusResponse{Status: st}
	if req.Verbose {
		resp.Info = verbose("info", map[string]any{
			"sandboxID": r.Config.Labels[docker.LabelSandboxID], "pid": r.State.Pid, "hostConfig": r.HostConfig, "driver": r.Driver,
		})
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
	labels, annotations := docker.SplitLabels(r.Config.Labels)
	created := parseTime(r.Created)
	id, _ := docker.IdentityOf(r.Name, r.Config.Labels) // inspect has checked it
	st := &cri.ContainerStatus{
		Id: r.ID, Metadata: containerMetadata(id), CreatedAt: docker.CreatedAt(r.Config.Labels, created),
		Labels: labels, Annotations: annotations, LogPath: r.Config.Labels[docker.LabelLogPath],
		Image:    &cri.ImageSpec{Image: imageName(r.Config.Labels[docker.LabelImage], r.Config.Image), UserSpecifiedImage: r.Config.Labels[docker.LabelImage]},
		ImageRef: s.imageRefs.Ref(ctx, r.Image), ImageId: r.Image,
		Resources: criResources(r.HostConfig), User: criUser(r), StopSignal: criSignal(r.Config.StopSignal),
	}
	setState(st, r.State)
	if st.ExitCode == exitKilled && s.view.OutOfMemory(r.ID) {
		st.Reason = reasonOOM
	}
	images := map[string]docker.ImageVolume{}
	for _, v := range docker.ImageVolumesOf(r.Config.Labels) {
		images[v.Path] = v
	}
	for _, m := range r.Mounts {
		v, isImage := images[m.Destination]
		switch {
		case isImage:
			st.Mounts = append(st.Mounts, &cri.Mount{ContainerPath: m.Destination, Readonly: true, ImageSubPath: v.SubPath,
				Image: &cri.ImageSpec{Image: v.ID, UserSpecifiedImage: v.Named, ImageRef: s.imageRefs.Ref(ctx, v.ID)}})
		case m.Type == mount.TypeBind:
			st.Mounts = append(st.Mounts, criMount(m))
		}
	}
	return st
}

// ListContainers lists containers, newest first.
func (s *Server) ListContainers(ctx context.Context, req *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	f := req.GetFilter()
	items, err := s.view.List(ctx, f.GetLabelSelector()[docker.LabelPodUID])
	if err != nil {
		return nil, err
	}
	resp := &cri.ListContainersResponse{}
	for i := range items {
		it := &items[i]
		if it.IsSandbox || !it.Matches(f.GetId(), f.GetLabelSelector()) || !strings.HasPrefix(it.SandboxID, f.GetPodSandboxId()) {
			continue
		}
		if want := f.GetState(); want != nil && want.State != containerState(it.State) {
			continue
		}
		name := imageName(it.Image, it.DockerImage)
		resp.Containers = append(resp.Containers, &cri.Container{
			Id: it.ID, PodSandboxId: it.SandboxID, Metadata: containerMetadata(it.Identity), State: containerState(it.State), CreatedAt: it.CreatedAt,
			Image: &cri.ImageSpec{Image: name, UserSpecifiedImage: it.Image}, ImageRef: s.imageRefs.Ref(ctx, it.ImageID), ImageId: it.ImageID,
			Labels: it.Labels, Annotations: it.Annotations,
		})
	}
	return resp, nil
}
