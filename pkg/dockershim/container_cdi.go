package dockershim

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/cdi"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// addCDIDevices gives a container the CDI devices that it asks for. Docker does it itself where it can, by the files
// in its own directories, when the container starts; elsewhere the files are read here and now. Docker is asked
// which it is each time, since it may have been configured anew; most containers have no such devices.
func (s *Server) addCDIDevices(ctx context.Context, spec *docker.ContainerSpec, config *cri.ContainerConfig) error {
	names, err := cdi.Names(config)
	if err != nil || len(names) == 0 {
		return err
	}
	ctx, cancel := s.action(ctx)
	defer cancel()
	about, err := s.docker.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask Docker whether it gives CDI devices: %w", err)
	}
	if len(about.CDISpecDirs) > 0 { // it is empty unless Docker gives them
		klog.V(4).InfoS("Docker gives CDI devices", "name", spec.Name, "devices", names, "dirs", about.CDISpecDirs)
		spec.Host.DeviceRequests = append(spec.Host.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: names})
		return nil
	}
	edits, err := cdi.Resolve(s.cfg.CDISpecDirs, names)
	if err != nil {
		return err
	}
	klog.V(4).InfoS("Giving CDI devices", "name", spec.Name, "devices", names, "dirs", s.cfg.CDISpecDirs)
	return cdi.Apply(spec, edits, s.platform.CDI())
}
