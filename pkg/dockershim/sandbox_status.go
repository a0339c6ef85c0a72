package dockershim

import (
	"context"
	"maps"
	"slices"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// PodSandboxStatus shows one sandbox.
func (s *Server) PodSandboxStatus(ctx context.Context, req *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	r, err := s.inspect(ctx, "pod_sandbox_id", req.PodSandboxId, docker.TypeSandbox)
	if err != nil {
		return nil, err
	}
	st, err := s.sandboxStatus(r)
	if err != nil {
		return nil, err
	}
	resp := &cri.PodSandboxStatusResponse{Status: st}
	if req.Verbose {
		resp.Info = verbose("info", map[string]any{
			"pid": r.State.Pid, "image": r.Image, "hostConfig": r.HostConfig, "networkSettings": r.NetworkSettings,
		})
	}
	return resp, nil
}

func (s *Server) sandboxStatus(r *container.InspectResponse) (*cri.PodSandboxStatus, error) {
	ready, ips, err := s.readiness(r.ID, docker.StateOf(r.State), string(r.HostConfig.NetworkMode))
	if err != nil {
		return nil, err
	}
	if ready && ips == nil {
		ips = engineIPs(r)
	}
	return convert.SandboxStatus(r, ready, ips), nil
}

// readiness reports whether a sandbox runs and has its network, and the addresses that a plug-in
// has given it, the primary one first. A sandbox that was made with another plug-in than
// today's has none. An error means that this cannot be told at the moment.
func (s *Server) readiness(id string, st docker.State, networkMode string) (ready bool, ips []string, err error) {
	if st != docker.StateRunning || networkMode != modeNone {
		return st == docker.StateRunning, nil, nil
	}
	result, attached, err := s.network.Result(id)
	return attached, result.IPs, err
}

// engineIPs returns the addresses that Docker has given a sandbox, the primary one first; none on
// the host's network. If somebody has attached it to more of Docker's networks, that which it was
// made with is first.
func engineIPs(r *container.InspectResponse) []string {
	if r.HostConfig.NetworkMode.IsHost() {
		return nil
	}
	if r.NetworkSettings == nil {
		return nil
	}
	own := r.HostConfig.NetworkMode.NetworkName()
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(r.NetworkSettings.Networks)), func(name string) bool { return name == own })
	var ips []string
	for _, name := range append([]string{own}, names...) {
		n := r.NetworkSettings.Networks[name]
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
