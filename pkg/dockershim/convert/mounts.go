package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// propagations lacks PRIVATE, with which a client asks for no propagation: Docker makes such
// a mount rprivate by itself, except for its own root directory and the directories above
// that, where it picks rslave and refuses rprivate by name.
var propagations = map[cri.MountPropagation]mount.Propagation{
	cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER: mount.PropagationRSlave,
	cri.MountPropagation_PROPAGATION_BIDIRECTIONAL:     mount.PropagationRShared,
}

// mounts converts a container's mounts. Symbolic links in their sources are followed; missing
// lists the sources that do not exist and have to be made as directories. images holds the
// mounted images, by the index of their mount. The result is in Docker's newer form, except
// for mounts that are to be relabelled for SELinux, which only the older form (binds) can.
func (p Platform) mounts(all []*cri.Mount, images map[int]docker.ImageVolume) (mounts []mount.Mount, binds, missing []string, err error) {
	for i, m := range all {
		field := fmt.Sprintf("config.mounts[%d]", i)
		if err := p.checkMount(field, m); err != nil {
			return nil, nil, nil, err
		}
		if m.GetImage().GetImage() != "" {
			// It is mounted read-only and noexec already; making it read-only again, Docker
			// would drop noexec.
			mounts = append(mounts, mount.Mount{Type: mount.TypeBind, Source: images[i].Source, Target: m.ContainerPath})
			continue
		}
		source, err := p.RealPath(m.HostPath)
		if errors.Is(err, fs.ErrNotExist) {
			if source, err = p.toMake(m); err == nil {
				missing = append(missing, source)
			}
		}
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%s.host_path: %s: %w", field, m.HostPath, err)
		}
		propagation := propagations[m.Propagation]
		if m.RecursiveReadOnly {
			// A mount that came in by propagation later would be writable.
			propagation = mount.PropagationRPrivate
		}
		if m.SelinuxRelabel && p.SELinux {
			// The older form separates its parts by colons and has no way to quote one.
			if strings.Contains(source+m.ContainerPath, ":") {
				return nil, nil, nil, grpccode.Invalid(field+".selinux_relabel", "docker cannot relabel a path that contains ':'")
			}
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
	return mounts, binds, missing, nil
}

// toMake returns where a missing source has to be made. cri-api calls a missing source an
// error, but containerd, CRI-O and Docker's own -v make it, and the DaemonSets of network
// plug-ins rely on that. By asking to relabel, a client says that the path is its own (a
// kubelet does so for volumes, /etc/hosts and the termination log, and never for hostPath):
// if such a path has gone, an empty directory would hide the loss.
func (p Platform) toMake(m *cri.Mount) (string, error) {
	switch {
	case m.SelinuxRelabel:
		return "", grpccode.Refused(codes.InvalidArgument, "does not exist")
	case slices.Contains(strings.Split(m.HostPath, "/"), ".."):
		return "", grpccode.Refused(codes.InvalidArgument, "does not exist, and is not made because of its '..'")
	}
	made := filepath.Clean(m.HostPath)
	for above := filepath.Dir(made); ; above = filepath.Dir(above) {
		real, err := p.RealPath(above)
		if err == nil {
			return filepath.Join(real, strings.TrimPrefix(made, above)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || above == "/" {
			return "", err
		}
	}
}

func bindOptions(m *cri.Mount, propagation mount.Propagation) string {
	options := "Z"
	if propagation != "" {
		options += "," + string(propagation)
	}
	if m.Readonly {
		options = "ro," + options
	}
	return options
}

// ExplainPropagation adds the remedy to Docker's refusal of a mount's propagation, and leaves
// every other error alone. Since 1.10 Docker has worded it "path P is mounted on M but it is
// not a shared [or slave] mount".
func ExplainPropagation(err error) error {
	if !strings.Contains(err.Error(), "but it is not a shared ") {
		return err
	}
	return fmt.Errorf("%w; mount propagation needs it shared on the host: mount --make-rshared M, where M is what the path is mounted on", err)
}

func (p Platform) checkMount(field string, m *cri.Mount) error {
	if m == nil {
		return grpccode.Invalid(field, "is missing")
	}
	if err := checkAbsolute(field+".container_path", m.ContainerPath); err != nil {
		return err
	}
	if filepath.Clean(m.ContainerPath) == "/" {
		return grpccode.Invalid(field+".container_path", "the container's root cannot be mounted over")
	}
	if len(m.MountOptions) > 0 {
		return grpccode.Invalid(field+".mount_options", "docker's bind mounts know no options such as noexec")
	}
	if m.GetImage().GetImage() != "" {
		if m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE {
			return grpccode.Invalid(field+".propagation", "an image has nothing to propagate")
		}
		return nil
	}
	if m.ImageSubPath != "" {
		return grpccode.Invalid(field+".image_sub_path", "is given without an image")
	}
	if err := checkAbsolute(field+".host_path", m.HostPath); err != nil {
		return err
	}
	if err := checkEnum(field+".propagation", m.Propagation, cri.MountPropagation_name); err != nil {
		return err
	}
	if len(m.UidMappings)+len(m.GidMappings) > 0 {
		return grpccode.Invalid(field+".uidMappings", "docker has no mounts with mapped ids")
	}
	if !m.RecursiveReadOnly {
		return nil
	}
	switch {
	case !m.Readonly:
		return grpccode.Invalid(field+".recursive_read_only", "needs readonly")
	case m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE:
		return grpccode.Invalid(field+".recursive_read_only", "needs propagation PRIVATE")
	case !p.RecursiveReadOnly:
		return grpccode.Invalid(field+".recursive_read_only", "needs Docker 25.0 and Linux 5.12, or newer")
	}
	return nil
}
