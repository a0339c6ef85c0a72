package convert

import (
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/stopsignal"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/logs"
)

// ContainerRequest is what a container is made of. Its parts have been checked by
// CheckContainer and CheckSandbox.
type ContainerRequest struct {
	SandboxID string
	Pod       docker.Identity
	Config    *cri.ContainerConfig
	Sandbox   *cri.PodSandboxConfig
	Images    map[int]docker.ImageVolume // mounted images, by the index of their mount
	LogPath   string                     // absolute; "" for no log
	Created   time.Time
}

// Container converts the configuration of a container. It looks at the sources of mounts
// and reads a seccomp profile from a file; it changes nothing.
func (p Platform) Container(req ContainerRequest) (*docker.ContainerSpec, error) {
	c := req.Config
	id := req.Pod
	id.Container, id.Attempt = c.Metadata.Name, c.Metadata.Attempt
	labels := docker.JoinLabels(c.Labels, c.Annotations)
	labels[docker.LabelType] = docker.TypeContainer
	labels[docker.LabelSandboxID] = req.SandboxID
	labels[docker.LabelLogPath] = req.LogPath
	labels[docker.LabelStateDir] = p.StateDir
	labels[docker.LabelCreated] = strconv.FormatInt(req.Created.UnixNano(), 10)
	labels[docker.LabelImage] = c.Image.Image
	if specified := c.Image.UserSpecifiedImage; specified != "" {
		labels[docker.LabelImage] = specified
	}
	var volumes []docker.ImageVolume
	for i := range c.Mounts {
		if v, ok := req.Images[i]; ok {
			volumes = append(volumes, v)
		}
	}
	docker.SetImageVolumes(labels, volumes)
	name, err := docker.SetIdentity(labels, id)
	if err != nil {
		return nil, err
	}
	config := &container.Config{
		Image: c.Image.Image, Entrypoint: c.Command, Cmd: c.Args, WorkingDir: c.WorkingDir, Labels: labels,
		Tty: c.Tty, OpenStdin: c.Stdin, StdinOnce: c.StdinOnce,
		// The probes of the pod say whether a container is healthy.
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	for _, e := range c.Envs {
		config.Env = append(config.Env, e.Key+"="+string(e.Value))
	}
	config.StopSignal = stopsignal.Name(c.StopSignal)
	host := &container.HostConfig{LogConfig: logs.DockerLogConfig(), Init: new(bool)}
	var missing []string
	if host.Mounts, host.Binds, missing, err = p.mounts(c.Mounts, req.Images); err != nil {
		return nil, err
	}
	if host.Resources, err = p.Resources("config.linux.resources", c.GetLinux().GetResources()); err != nil {
		return nil, err
	}
	host.OomScoreAdj = int(c.GetLinux().GetResources().GetOomScoreAdj())
	host.CgroupParent = p.cgroupParent(req.Sandbox.GetLinux().GetCgroupParent())
	for _, d := range c.Devices {
		host.Devices = append(host.Devices, container.DeviceMapping{PathOnHost: d.HostPath, PathInContainer: d.ContainerPath, CgroupPermissions: d.Permissions})
	}
	if err := p.confine(config, host, req.SandboxID, c.GetLinux().GetSecurityContext()); err != nil {
		return nil, err
	}
	return &docker.ContainerSpec{Name: name, Config: config, Host: host, MissingDirs: missing}, nil
}

// confine applies a container's security context.
func (p Platform) confine(config *container.Config, host *container.HostConfig, sandboxID string, s *cri.LinuxContainerSecurityContext) (err error) {
	const field = "config.linux.security_context"
	namespaces := s.GetNamespaceOptions()
	join := "container:" + sandboxID
	host.NetworkMode, host.IpcMode = container.NetworkMode(join), container.IpcMode(join)
	if OnHost(namespaces.GetNetwork()) {
		host.UTSMode = "host"
	}
	if OnHost(namespaces.GetIpc()) {
		host.IpcMode = container.IPCModeHost
	}
	switch namespaces.GetPid() {
	case cri.NamespaceMode_POD:
		host.PidMode = container.PidMode(join)
	case cri.NamespaceMode_NODE:
		host.PidMode = "host"
	case cri.NamespaceMode_TARGET:
		if namespaces.TargetId == "" {
			return grpccode.Invalid(field+".namespace_options.target_id", "is empty")
		}
		host.PidMode = container.PidMode("container:" + namespaces.TargetId)
	}
	if config.User, err = user(field, s.GetRunAsUser(), s.GetRunAsUsername(), s.GetRunAsGroup()); err != nil {
		return err
	}
	if err := checkEnum(field+".supplemental_groups_policy", s.GetSupplementalGroupsPolicy(), cri.SupplementalGroupsPolicy_name); err != nil {
		return err
	}
	if s.GetSupplementalGroupsPolicy() == cri.SupplementalGroupsPolicy_Strict && s.GetRunAsGroup() == nil {
		// Only with a group does Docker ignore the other groups that the image gives the user.
		return grpccode.Invalid(field+".supplemental_groups_policy", "Strict is possible with Docker only together with run_as_group")
	}
	host.GroupAdd = groups(s.GetSupplementalGroups())
	host.Privileged, host.ReadonlyRootfs = s.GetPrivileged(), s.GetReadonlyRootfs()
	if caps := s.GetCapabilities(); caps != nil {
		if len(caps.AddAmbientCapabilities) > 0 {
			return grpccode.Invalid(field+".capabilities.add_ambient_capabilities", "docker has no ambient capabilities")
		}
		if host.CapAdd, err = capabilities(field+".capabilities.add_capabilities", caps.AddCapabilities); err != nil {
			return err
		}
		if host.CapDrop, err = capabilities(field+".capabilities.drop_capabilities", caps.DropCapabilities); err != nil {
			return err
		}
	}
	if s != nil && !s.Privileged {
		// Docker takes nil for its own, longer lists, and an empty list for none.
		host.MaskedPaths, host.ReadonlyPaths = nonNil(s.MaskedPaths), nonNil(s.ReadonlyPaths)
	}
	host.SecurityOpt, err = p.securityOptions(field, securityProfiles{
		seccomp: s.GetSeccomp(), apparmor: s.GetApparmor(),
		//lint:ignore SA1019 older clients set it
		apparmorName: s.GetApparmorProfile(),
		selinux:      s.GetSelinuxOptions(), noNewPrivileges: s.GetNoNewPrivs(), privileged: s.GetPrivileged(),
	})
	return err
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
