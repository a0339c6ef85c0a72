package dockershim

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/docker/docker/api/types/mount"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var propagations = map[cri.MountPropagation]mount.Propagation{
	cri.MountPropagation_PROPAGATION_PRIVATE:           mount.PropagationRPrivate,
	cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER: mount.PropagationRSlave,
	cri.MountPropagation_PROPAGATION_BIDIRECTIONAL:     mount.PropagationRShared,
}

// mounts converts a container's mounts. Sources must exist (cri-api), symbolic
// links in them are followed. images are those that are to be mounted. Only Docker's older form can relabel for SELinux.
func (p platform) mounts(all []*cri.Mount, images map[int]imageVolume) (mounts []mount.Mount, binds []string, err error) {
	for i, m := range all {
		field := fmt.Sprintf("config.mounts[%d]", i)
		if err := p.checkMount(field, m); err != nil {
			return nil, nil, err
		}
		if m.GetImage().GetImage() != "" {
			// It is read-only and noexec by itself; if Docker were to make it read-only, it
			// would drop the other.
			mounts = append(mounts, mount.Mount{Type: mount.TypeBind, Source: images[i].source, Target: m.ContainerPath})
			continue
		}
		source, err := p.realPath(m.HostPath)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, invalid(field+".host_path", "%s does not exist", m.HostPath)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s.host_path: %w", field, err)
		}
		propagation := propagations[m.Propagation]
		if m.SelinuxRelabel && p.seLinux {
			binds = append(binds, source+":"+m.ContainerPath+":"+bindOptions(m, propagation))
			continue
		}
		options := &mount.BindOptions{Propagation: propagation}
		if m.Readonly && p.api("1.44") {
			// Since 25.0 Docker's read-only is recursive where it can be; CRI's is not.
			options.ReadOnlyNonRecursive, options.ReadOnlyForceRecursive = !m.RecursiveReadOnly, m.RecursiveReadOnly
		}
		mounts = append(mounts, mount.Mount{
			Type: mount.TypeBind, Source: source, Target: m.ContainerPath, ReadOnly: m.Readonly, BindOptions: options,
		})
	}
	return mounts, binds, nil
}

func bindOptions(m *cri.Mount, propagation mount.Propagation) string {
	options := "Z," + string(propagation)
	if m.Readonly {
		options = "ro," + options
	}
	return options
}

func (p platform) checkMount(field string, m *cri.Mount) error {
	if m == nil {
		return invalid(field, "is missing")
	}
	if err := checkAbsolute(field+".container_path", m.ContainerPath); err != nil {
		return err
	}
	if filepath.Clean(m.ContainerPath) == "/" {
		return invalid(field+".container_path", "the container's root cannot be mounted over")
	}
	if m.GetImage().GetImage() != "" {
		if m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE {
			return invalid(field+".propagation", "an image has nothing to propagate")
		}
		return nil
	}
	if m.ImageSubPath != "" {
		return invalid(field+".image_sub_path", "is given without an image")
	}
	if err := checkAbsolute(field+".host_path", m.HostPath); err != nil {
		return err
	}
	if err := checkEnum(field+".propagation", m.Propagation, cri.MountPropagation_name); err != nil {
		return err
	}
	if len(m.UidMappings)+len(m.GidMappings) > 0 {
		return invalid(field+".uidMappings", "docker has no mounts with mapped ids")
	}
	if !m.RecursiveReadOnly {
		return nil
	}
	switch {
	case !m.Readonly:
		return invalid(field+".recursive_read_only", "needs readonly")
	case m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE:
		return invalid(field+".recursive_read_only", "needs propagation PRIVATE")
	case !p.recursive:
		return invalid(field+".recursive_read_only", "needs Docker 25.0 and Linux 5.12, or newer")
	}
	return nil
}

func realPath(path string) (string, error) { return filepath.EvalSymlinks(path) }
