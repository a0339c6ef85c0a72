package convert

import (
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// Settings of the sandbox container itself, the same as the kubelet's old dockershim gave it.
const (
	sandboxOOMScoreAdj = -998
	sandboxCPUShares   = 2
	shmSize            = 64 << 20
)

// Sandbox converts the configuration of a sandbox, which CheckSandbox has checked. image is
// the name of the sandbox image, mode the Docker network mode of sandboxes on the pod network.
// It reads a seccomp profile from a file, and changes nothing.
func (p Platform) Sandbox(c *cri.PodSandboxConfig, handler, image, mode string, now time.Time) (*docker.ContainerSpec, error) {
	id := SandboxIdentity(c.Metadata)
	labels := docker.JoinLabels(c.Labels, c.Annotations)
	labels[docker.LabelType] = docker.TypeSandbox
	labels[docker.LabelContainerName] = docker.SandboxName
	labels[docker.LabelStateDir] = p.StateDir
	labels[docker.LabelCreated] = strconv.FormatInt(now.UnixNano(), 10)
	if handler != "" {
		labels[docker.LabelHandler] = handler
	}
	security := c.GetLinux().GetSecurityContext()
	namespaces := security.GetNamespaceOptions()
	if mode := namespaces.GetPid(); mode != cri.NamespaceMode_POD {
		labels[docker.LabelPIDMode] = mode.String()
	}
	name, err := docker.SetIdentity(labels, id)
	if err != nil {
		return nil, err
	}
	config := &container.Config{Image: image, Labels: labels, Hostname: c.Hostname}
	host := &container.HostConfig{
		LogConfig:      container.LogConfig{Type: "none"},
		NetworkMode:    container.NetworkMode(mode),
		IpcMode:        container.IPCModeShareable,
		ShmSize:        shmSize,
		OomScoreAdj:    sandboxOOMScoreAdj,
		ReadonlyRootfs: security.GetReadonlyRootfs(),
		Resources:      container.Resources{CPUShares: sandboxCPUShares, CgroupParent: p.cgroupParent(c.GetLinux().GetCgroupParent())},
		Sysctls:        c.GetLinux().GetSysctls(),
		Runtime:        OCIRuntime(handler),
		Init:           new(bool), // also where the daemon's default is another
	}
	if OnHost(namespaces.GetNetwork()) {
		host.NetworkMode, host.UTSMode, config.Hostname = "host", "host", ""
	} else {
		config.ExposedPorts, host.PortBindings = ports(c.PortMappings)
	}
	if OnHost(namespaces.GetPid()) {
		host.PidMode = "host"
	}
	if OnHost(namespaces.GetIpc()) {
		host.IpcMode = container.IPCModeHost
	}
	host.DNS, host.DNSSearch, host.DNSOptions = dns(c.DnsConfig)
	if config.User, err = user("config.linux.security_context", security.GetRunAsUser(), "", security.GetRunAsGroup()); err != nil {
		return nil, err
	}
	host.GroupAdd = groups(security.GetSupplementalGroups())
	if host.SecurityOpt, err = p.securityOptions("config.linux.security_context", securityProfiles{
		seccomp: security.GetSeccomp(), apparmor: security.GetApparmor(), selinux: security.GetSelinuxOptions(), noNewPrivileges: true,
	}); err != nil {
		return nil, err
	}
	return &docker.ContainerSpec{Name: name, Config: config, Host: host}, nil
}

// SandboxIdentity is the identity of a sandbox with this metadata.
func SandboxIdentity(m *cri.PodSandboxMetadata) docker.Identity {
	return docker.Identity{Pod: m.Name, Namespace: m.Namespace, UID: m.Uid, Attempt: m.Attempt}
}

// OnHost reports whether a namespace is the host's.
func OnHost(mode cri.NamespaceMode) bool { return mode == cri.NamespaceMode_NODE }

// OCIRuntime returns the OCI runtime for a handler, "" for Docker's default. RuntimeClasses of
// dockershim nodes call the default "docker".
func OCIRuntime(handler string) string {
	if handler == "docker" {
		return ""
	}
	return handler
}

// cgroupParent returns the parent as Docker takes it: a path, or with systemd the name of a slice.
func (p Platform) cgroupParent(parent string) string {
	if parent != "" && p.Systemd {
		return path.Base(parent)
	}
	return parent
}

// ports converts the mappings that have a port on the host. The others require nothing.
func ports(mappings []*cri.PortMapping) (nat.PortSet, nat.PortMap) {
	var exposed nat.PortSet
	var bindings nat.PortMap
	for _, m := range mappings {
		if m.HostPort == 0 {
			continue
		}
		if exposed == nil {
			exposed, bindings = nat.PortSet{}, nat.PortMap{}
		}
		port := nat.Port(strconv.Itoa(int(m.ContainerPort)) + "/" + strings.ToLower(m.Protocol.String()))
		exposed[port] = struct{}{}
		bindings[port] = append(bindings[port], nat.PortBinding{HostIP: m.HostIp, HostPort: strconv.Itoa(int(m.HostPort))})
	}
	return exposed, bindings
}

// dns converts a sandbox's resolv.conf. Docker takes an empty list for the host's values; "."
// and "" are its words for none.
func dns(c *cri.DNSConfig) (servers, searches, options []string) {
	if c == nil || len(c.Servers)+len(c.Searches)+len(c.Options) == 0 {
		return nil, nil, nil
	}
	searches, options = c.Searches, c.Options
	if len(searches) == 0 {
		searches = []string{"."}
	}
	if len(options) == 0 {
		options = []string{""}
	}
	return c.Servers, searches, options
}
