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
	resp := &cri.PodSandboxStatusResponse{Status: s.sandboxStatus(r)}
	if req.Verbose {
		resp.Info = verbose("info", map[string]any{
			"pid": r.State.Pid, "image": r.Image, "hostConfig": r.HostConfig, "networkSettings": r.NetworkSettings,
		})
	}
	return resp, nil
}

func (s *Server) sandboxStatus(r *container.InspectResponse) *cri.PodSandboxStatus {
	ready := s.isReady(r.ID, docker.StateOf(r.State), string(r.HostConfig.NetworkMode))
	var ips []string
	if ready {
		ips = s.sandboxIPs(r)
	}
	return convert.SandboxStatus(r, ready, ips)
}

// isReady reports whether a sandbox runs and has its network. A sandbox that was made with
// another plug-in than today's has none.
func (s *Server) isReady(id string, st docker.State, networkMode string) bool {
	ready := st == docker.StateRunning
	if ready && networkMode == modeNone {
		_, ready = s.network.Result(id)
	}
	return ready
}

// sandboxIPs returns a sandbox's addresses, the primary one first; none on the host's network.
// If somebody has attached it to more of Docker's networks, that which it was made with is first.
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
