package dockershim

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// PodSandboxStatus shows one sandbox.
func (s *Server) PodSandboxStatus(ctx context.Context, req *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	r, err := s.inspect(ctx, "pod_sandbox_id", req.PodSandboxId, docker.TypeSandbox)
	if err != nil {
		return nil, err
	}
	resp := &cri.PodSandboxStatusResponse{Status: s.sandboxStatus(r)}
	if req.Verbose {
		resp.Info = verbose("info", map[string]any{
			"pid": r.State.Pid, "image": r.Image, "hostConfig": r.HostConfig, "networkSettings": r.NetworkSettings,
		})
	}
	return resp, nil
}

// inspect shows a sandbox or container, or fails with NotFound.
func (s *Server) inspect(ctx context.Context, field, id, kind string) (*container.InspectResponse, error) {
	if id == "" {
		return nil, grpccode.Invalid(field, "is empty")
	}
	what := "container"
	if kind == docker.TypeSandbox {
		what = "sandbox"
	}
	r, err := s.view.Inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil, grpccode.NotFound(what, id)
	}
	if err != nil {
		return nil, err
	}
	if (r.Config.Labels[docker.LabelType] == docker.TypeSandbox) != (kind == docker.TypeSandbox) || r.State == nil || r.HostConfig == nil {
		return nil, grpccode.NotFound(what, id)
	}
	return r, nil
}

func (s *Server) sandboxStatus(r *container.InspectResponse) *cri.PodSandboxStatus {
	labels, annotations := docker.SplitLabels(r.Config.Labels)
	created, _ := time.Parse(time.RFC3339Nano, r.Created)
	id, _ := docker.IdentityOf(r.Name, r.Config.Labels) // inspect has checked it
	st := &cri.PodSandboxStatus{
		Id: r.ID, Metadata: sandboxMetadata(id), CreatedAt: docker.CreatedAt(r.Config.Labels, created),
		State:  s.sandboxState(r.ID, docker.StateOf(r.State), string(r.HostConfig.NetworkMode)),
		Labels: labels, Annotations: annotations, RuntimeHandler: r.Config.Labels[docker.LabelHandler],
		Linux:   &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{Options: sandboxNamespaces(r)}},
		Network: &cri.PodSandboxNetworkStatus{},
	}
	if ips := s.sandboxIPs(r); len(ips) > 0 && st.State == cri.PodSandboxState_SANDBOX_READY {
		st.Network.Ip = ips[0]
		for _, ip := range ips[1:] {
			st.Network.AdditionalIps = append(st.Network.AdditionalIps, &cri.PodIP{Ip: ip})
		}
	}
	return st
}

// sandboxState: a sandbox is ready when it runs and has its network. One that
// was made with another plug-in than today's has none.
func (s *Server) sandboxState(id string, st docker.State, networkMode string) cri.PodSandboxState {
	ready := st == docker.StateRunning
	if ready && networkMode == modeNone {
		_, ready = s.network.Result(id)
	}
	if ready {
		return cri.PodSandboxState_SANDBOX_READY
	}
	return cri.PodSandboxState_SANDBOX_NOTREADY
}

// sandboxIPs are a sandbox's addresses, primary first; none on the host's network.
func (s *Server) sandboxIPs(r *container.InspectResponse) []string {
	if r.HostConfig.NetworkMode.IsHost() {
		return nil
	}
	if r.HostConfig.NetworkMode == modeNone {
		result, _ := s.network.Result(r.ID)
		return result.IPs
	}
	if r.NetworkSettings == nil {
		return nil
	}
	var ips []string
	for _, n := range r.NetworkSettings.Networks {
		if n == nil {
			continue
		}
		for _, ip := range []string{n.IPAddress, n.GlobalIPv6Address} {
			if ip != "" {
				ips = append(ips, ip)
			}
		}
	}
	return ips
}

// ListPodSandbox lists sandboxes, newest first.
func (s *Server) ListPodSandbox(ctx context.Context, req *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	f := req.GetFilter()
	items, err := s.view.List(ctx, f.GetLabelSelector()[docker.LabelPodUID])
	if err != nil {
		return nil, err
	}
	resp := &cri.ListPodSandboxResponse{}
	for i := range items {
		it := &items[i]
		if !it.IsSandbox || !it.Matches(f.GetId(), f.GetLabelSelector()) {
			continue
		}
		st := s.sandboxState(it.ID, it.State, it.NetworkMode)
		if want := f.GetState(); want != nil && want.State != st {
			continue
		}
		resp.Items = append(resp.Items, &cri.PodSandbox{
			Id: it.ID, Metadata: sandboxMetadata(it.Identity), State: st, CreatedAt: it.CreatedAt,
			Labels: it.Labels, Annotations: it.Annotations, RuntimeHandler: it.Handler,
		})
	}
	return resp, nil
}
