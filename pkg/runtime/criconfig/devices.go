package criconfig

import (
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// cdiDevices lists devices by their CDI names.
func cdiDevices(names []string) (list []*cri.CDIDevice) {
	for _, name := range names {
		list = append(list, &cri.CDIDevice{Name: name})
	}
	return list
}

// over lists what a plug-in gives, and then what the pod has of the same kind. Of two at one path in the container
// the later counts, as it would with a kubelet, whose runtime puts one over the other: Docker refuses a container that
// has both.
func over[T interface{ GetContainerPath() string }](given, own []T) (all []T) {
	for i, x := range given {
		same := func(y T) bool { return filepath.Clean(x.GetContainerPath()) == filepath.Clean(y.GetContainerPath()) }
		if !slices.ContainsFunc(given[i+1:], same) && !slices.ContainsFunc(own, same) {
			all = append(all, x)
		}
	}
	return append(all, own...)
}

// devices lists the container's block volumes.
func devices(pod *v1.Pod, c *v1.Container, in ContainerInput) ([]*cri.Device, error) {
	var all []*cri.Device
	for _, d := range c.VolumeDevices {
		if err := bounds.Path(d.DevicePath); err != nil {
			return nil, containerErrorf("devicePath %w", err)
		}
		if in.Volumes == nil {
			return nil, containerErrorf("cannot find volume %q to pass into container %q", d.Name, c.Name)
		}
		v, err := in.Volumes.Path(pod, d.Name)
		if err != nil {
			return nil, containerErrorf("cannot find volume %q to pass into container %q: %w", d.Name, c.Name, err)
		}
		if !v.Block {
			return nil, containerErrorf("volume %q of container %q is not a block device", d.Name, c.Name)
		}
		permissions := "mrw"
		if v.ReadOnly {
			permissions = "mr"
		}
		all = append(all, &cri.Device{HostPath: v.Host, ContainerPath: d.DevicePath, Permissions: permissions})
	}
	return all, nil
}
