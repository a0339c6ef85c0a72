package criconfig

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

const etcHosts = "/etc/hosts"

// mounts lists the container's volumes in the order of its spec, then what the
// node adds: /etc/hosts and the termination log.
func mounts(ctx context.Context, pod *v1.Pod, c *v1.Container, in ContainerInput, env *environment) ([]*cri.Mount, error) {
	if err := bounds.Path(c.TerminationMessagePath); err != nil {
		return nil, containerErrorf("terminationMessagePath %w", err)
	}
	var all []*cri.Mount
	ownHosts := false
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		mount, err := volumeMount(ctx, pod, c, i, in, env)
		if err != nil {
			return nil, err
		}
		ownHosts = ownHosts || path.Clean(m.MountPath) == etcHosts
		all = append(all, mount)
	}
	if len(all) > 0 {
		if err := in.Volumes.MountPoints(ctx, pod, c); err != nil {
			return nil, containerErrorf("failed to prepare the volumes of container %q: %w", c.Name, err)
		}
	}
	if in.HostsPath != "" && !ownHosts {
		all = append(all, &cri.Mount{ContainerPath: etcHosts, HostPath: in.HostsPath, SelinuxRelabel: true})
	}
	if in.TerminationLogPath != "" && c.TerminationMessagePath != "" {
		all = append(all, &cri.Mount{
			ContainerPath:  absolute(c.TerminationMessagePath),
			HostPath:       in.TerminationLogPath,
			SelinuxRelabel: true,
		})
	}
	return all, nil
}

func volumeMount(ctx context.Context, pod *v1.Pod, c *v1.Container, index int, in ContainerInput, env *environment) (*cri.Mount, error) {
	m := &c.VolumeMounts[index]
	if err := bounds.Path(m.MountPath); err != nil {
		return nil, containerErrorf("mountPath %w", err)
	}
	if in.Volumes == nil {
		return nil, containerErrorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
	}
	v, err := in.Volumes.Path(pod, m.Name)
	if err != nil {
		return nil, containerErrorf("cannot find volume %q to mount into container %q: %w", m.Name, c.Name, err)
	}
	sub, err := subPath(m, env)
	if err != nil {
		return nil, err
	}
	mount := &cri.Mount{
		ContainerPath:  absolute(m.MountPath),
		HostPath:       v.Host,
		Readonly:       m.ReadOnly || v.ReadOnly,
		SelinuxRelabel: v.Relabel && !m.ReadOnly,
	}
	if img := in.Images[m.Name]; img != nil {
		// The runtime resolves the path within the image, as a process in it would.
		mount.HostPath, mount.Image, mount.ImageSubPath = "", img, sub
	} else if sub != "" {
		if mount.HostPath, err = in.Volumes.SubPath(ctx, pod, c.Name, index, m.Name, sub); err != nil {
			return nil, containerErrorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
		}
	}
	if mount.Propagation, err = propagation(m.MountPropagation); err != nil {
		return nil, err
	}
	if mount.RecursiveReadOnly, err = recursiveReadOnly(m, in.Node.RecursiveReadOnly); err != nil {
		return nil, err
	}
	return mount, nil
}

// subPath returns which part of the volume to mount, "" for all of it.
func subPath(m *v1.VolumeMount, env *environment) (string, error) {
	sub := m.SubPath
	if m.SubPathExpr != "" {
		var missing []error
		var err error
		sub, err = Expand(m.SubPathExpr, bounds.MaxPath, func(name string) (string, bool) {
			v, ok := env.lookup(name)
			if !ok {
				missing = append(missing, errors.New(name))
			}
			return v, ok
		})
		if err != nil {
			return "", containerErrorf("subPathExpr of volume %q gives a path of more than %d bytes", m.Name, bounds.MaxPath)
		}
		if len(missing) > 0 {
			return "", containerErrorf("missing value for %q", missing[0].Error())
		}
	}
	if err := bounds.Path(sub); err != nil {
		return "", containerErrorf("unable to provision SubPath %w", err)
	}
	switch {
	case sub == "":
		return "", nil
	case path.IsAbs(sub):
		return "", containerErrorf("error SubPath `%s` must not be an absolute path", bounds.Quote(sub))
	case slices.Contains(strings.Split(sub, "/"), ".."):
		return "", containerErrorf("unable to provision SubPath `%s`: must not contain '..'", bounds.Quote(sub))
	case strings.ContainsRune(sub, 0):
		return "", containerErrorf("unable to provision SubPath %q: must not contain NUL", bounds.Quote(sub))
	}
	return sub, nil
}

func propagation(mode *v1.MountPropagationMode) (cri.MountPropagation, error) {
	switch {
	case mode == nil || *mode == v1.MountPropagationNone:
		return cri.MountPropagation_PROPAGATION_PRIVATE, nil
	case *mode == v1.MountPropagationHostToContainer:
		return cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, nil
	case *mode == v1.MountPropagationBidirectional:
		return cri.MountPropagation_PROPAGATION_BIDIRECTIONAL, nil
	}
	return 0, containerErrorf("invalid MountPropagation mode: %q", *mode)
}

// recursiveReadOnly reports whether mounts below the volume must be read-only too;
// for IfPossible that depends on what the runtime supports.
func recursiveReadOnly(m *v1.VolumeMount, supported bool) (bool, error) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == v1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	switch {
	case !m.ReadOnly:
		return false, containerErrorf("volume %q requested recursive read-only mode, but it is not read-only", m.Name)
	case m.MountPropagation != nil && *m.MountPropagation != v1.MountPropagationNone:
		return false, containerErrorf("volume %q requested recursive read-only mode, but mount propagation %q was requested too", m.Name, *m.MountPropagation)
	case !supported && *m.RecursiveReadOnly == v1.RecursiveReadOnlyEnabled:
		return false, containerErrorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", m.Name)
	}
	return supported, nil
}

func absolute(p string) string {
	if path.IsAbs(p) {
		return p
	}
	return "/" + p
}
