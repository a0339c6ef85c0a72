package dockershim

import (
	"context"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// RuntimeConfig reports Docker's cgroup driver.
func (s *Server) RuntimeConfig(context.Context, *cri.RuntimeConfigRequest) (*cri.RuntimeConfigResponse, error) {
	driver := cri.CgroupDriver_CGROUPFS
	if s.platform.Systemd {
		driver = cri.CgroupDriver_SYSTEMD
	}
	return &cri.RuntimeConfigResponse{Linux: &cri.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

// UpdateRuntimeConfig passes the node's pod CIDR to the network plug-in.
func (s *Server) UpdateRuntimeConfig(_ context.Context, req *cri.UpdateRuntimeConfigRequest) (*cri.UpdateRuntimeConfigResponse, error) {
	cidr := req.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	if cidr == "" {
		return &cri.UpdateRuntimeConfigResponse{}, nil
	}
	if err := s.SetPodCIDR(cidr); err != nil {
		return nil, grpccode.Invalid("runtime_config.network_config.pod_cidr", "%v", err)
	}
	return &cri.UpdateRuntimeConfigResponse{}, nil
}

// SetPodCIDR is UpdateRuntimeConfig for the program that runs the dockershim. It may be called
// before Run.
func (s *Server) SetPodCIDR(cidr string) error {
	if err := s.network.UpdatePodCIDR(cidr); err != nil {
		return err
	}
	klog.InfoS("The network plug-in has the pod CIDR", "plugin", s.network.Name(), "podCIDR", cidr)
	return nil
}
