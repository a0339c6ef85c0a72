package criconfig

import (
	"context"
	"maps"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Container returns the configuration of attempt in.RestartCount of one
// container of the pod, or an Error with reason ReasonContainerConfig. It asks
// in.Volumes and in.Objects, and is otherwise a function of its arguments.
func Container(ctx context.Context, pod *v1.Pod, c *v1.Container, in ContainerInput) (*cri.ContainerConfig, error) {
	if err := bounds.Path(c.WorkingDir); err != nil {
		return nil, containerErrorf("workingDir %w", err)
	}
	given := in.Node.devices(pod.UID, c.Name)
	env, err := makeEnv(ctx, pod, c, in, given.Envs)
	if err != nil {
		return nil, err
	}
	command, left, err := ExpandAll(c.Command, MaxArguments-env.size, env.lookup)
	if err != nil {
		return nil, containerErrorf("%w", err)
	}
	args, _, err := ExpandAll(c.Args, left, env.lookup)
	if err != nil {
		return nil, containerErrorf("%w", err)
	}
	security, err := containerSecurity(pod, c, in)
	if err != nil {
		return nil, err
	}
	mounts, err := mounts(ctx, pod, c, in, env)
	if err != nil {
		return nil, err
	}
	own, err := containerAnnotations(pod, c, in.RestartCount)
	if err != nil {
		return nil, err
	}
	annotations := maps.Clone(given.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(annotations, own)
	signal, err := stopSignal(c)
	if err != nil {
		return nil, err
	}
	blocks, err := devices(pod, c, in)
	if err != nil {
		return nil, err
	}
	return &cri.ContainerConfig{
		Metadata:    &cri.ContainerMetadata{Name: c.Name, Attempt: in.RestartCount},
		Image:       &cri.ImageSpec{Image: in.ImageRef, UserSpecifiedImage: c.Image},
		Command:     command,
		Args:        args,
		WorkingDir:  c.WorkingDir,
		Envs:        env.cri(),
		Mounts:      over(given.Mounts, mounts),
		Devices:     over(given.Nodes, blocks),
		CDIDevices:  cdiDevices(given.CDI),
		Labels:      containerLabels(pod, c),
		Annotations: annotations,
		LogPath:     pods.ContainerLogPath(c.Name, in.RestartCount),
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		StopSignal:  signal,
		Linux: &cri.LinuxContainerConfig{
			Resources:       Resources(pod, c, in.Node),
			SecurityContext: security,
		},
	}, nil
}
