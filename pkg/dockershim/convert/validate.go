package convert

import (
	"bytes"
	"math"
	"net"
	"path/filepath"
	"strings"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// Every field of a request is checked here, before anything is done. What a conversion finds
// beyond that, it refuses in the same way.

// checkText checks a string that becomes part of a name, a label or a path element.
func checkText(field, value string) error {
	switch {
	case value == "":
		return grpccode.Invalid(field, "is empty")
	case strings.ContainsRune(value, 0):
		return grpccode.Invalid(field, "contains NUL")
	}
	return nil
}

// checkPathElement checks a string that becomes the name of a file elsewhere.
func checkPathElement(field, value string) error {
	if err := checkText(field, value); err != nil {
		return err
	}
	if strings.Contains(value, "/") || value == "." || value == ".." {
		return grpccode.Invalid(field, "%q contains a path", value)
	}
	return nil
}

// checkPathLength refuses a path that is longer than Linux takes. runc repeats the path in its
// error, and nobody reads more of that than the 64 KiB of a pipe: runc would wait for ever,
// and Docker would not answer about the container any more.
func checkPathLength(field, path string) error {
	if len(path) > bounds.MaxPath {
		return grpccode.Invalid(field, "is %d bytes long, and a path has at most %d", len(path), bounds.MaxPath)
	}
	return nil
}

// CheckCommand checks a command, whose first word is the path of a program.
func CheckCommand(field string, words []string) error {
	if len(words) == 0 {
		return nil
	}
	return checkPathLength(field+"[0]", words[0])
}

func checkAbsolute(field, path string) error {
	if err := checkPathLength(field, path); err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		return grpccode.Invalid(field, "%q is not an absolute path", path)
	}
	if strings.ContainsRune(path, 0) {
		return grpccode.Invalid(field, "contains NUL")
	}
	return nil
}

func checkEnum[T ~int32](field string, value T, names map[int32]string) error {
	if _, ok := names[int32(value)]; !ok {
		return grpccode.Invalid(field, "%d is not known", value)
	}
	return nil
}

// maxSandboxWeight is how much a pod's labels and annotations may cost together, in bytes;
// see docker.Weigh. It admits a few annotations of 256 KiB, the most that the API takes, and
// not 1,500 short ones.
const maxSandboxWeight = 1536 << 10

func checkSandboxWeight(c *cri.PodSandboxConfig) error {
	weight := docker.Weigh(c.Labels, 1) + docker.Weigh(c.Annotations, 1)
	if weight > maxSandboxWeight {
		return grpccode.Invalid("config.labels", "with the annotations they are %d KiB, counting each as 1 KiB more; at most %d KiB", weight>>10, maxSandboxWeight>>10)
	}
	return nil
}

// CheckSandbox checks the configuration of a sandbox. Errors name the field.
func CheckSandbox(c *cri.PodSandboxConfig) error {
	if c == nil {
		return grpccode.Invalid("config", "is missing")
	}
	m := c.Metadata
	if m == nil {
		return grpccode.Invalid("config.metadata", "is missing")
	}
	for _, f := range [][2]string{{"name", m.Name}, {"namespace", m.Namespace}, {"uid", m.Uid}} {
		if err := checkPathElement("config.metadata."+f[0], f[1]); err != nil {
			return err
		}
		// CNI plug-ins get these as key=value;key=value, and a name must not add to that.
		if strings.ContainsAny(f[1], ";=") {
			return grpccode.Invalid("config.metadata."+f[0], "%q contains ';' or '='", f[1])
		}
	}
	if c.LogDirectory != "" {
		if err := checkAbsolute("config.log_directory", c.LogDirectory); err != nil {
			return err
		}
	}
	if c.Windows != nil {
		return grpccode.Invalid("config.windows", "this is a Linux runtime")
	}
	if err := checkSandboxWeight(c); err != nil {
		return err
	}
	if err := checkPorts(c.PortMappings); err != nil {
		return err
	}
	for _, s := range c.DnsConfig.GetServers() {
		if host, _, _ := strings.Cut(s, "%"); net.ParseIP(host) == nil {
			return grpccode.Invalid("config.dns_config.servers", "%q is no IP address", s)
		}
	}
	security := c.GetLinux().GetSecurityContext()
	if err := checkNamespaces("config.linux.security_context", security.GetNamespaceOptions()); err != nil {
		return err
	}
	if security.GetNamespaceOptions().GetPid() == cri.NamespaceMode_TARGET {
		return grpccode.Invalid("config.linux.security_context.namespace_options.pid", "TARGET is for containers")
	}
	return CheckResources("config.linux.resources", c.GetLinux().GetResources())
}

func checkPorts(ports []*cri.PortMapping) error {
	for _, p := range ports {
		if p == nil {
			return grpccode.Invalid("config.port_mappings", "an entry is missing")
		}
		if err := checkEnum("config.port_mappings.protocol", p.Protocol, cri.Protocol_name); err != nil {
			return err
		}
		if p.HostPort < 0 || p.HostPort > math.MaxUint16 {
			return grpccode.Invalid("config.port_mappings.host_port", "%d is no port", p.HostPort)
		}
		if p.ContainerPort < 0 || p.ContainerPort > math.MaxUint16 || p.HostPort > 0 && p.ContainerPort == 0 {
			return grpccode.Invalid("config.port_mappings.container_port", "%d is no port", p.ContainerPort)
		}
		if p.HostIp != "" && net.ParseIP(p.HostIp) == nil {
			return grpccode.Invalid("config.port_mappings.host_ip", "%q is no IP address", p.HostIp)
		}
	}
	return nil
}

func checkNamespaces(field string, n *cri.NamespaceOption) error {
	if n == nil {
		return nil
	}
	field += ".namespace_options."
	for name, mode := range map[string]cri.NamespaceMode{"network": n.Network, "pid": n.Pid, "ipc": n.Ipc} {
		if err := checkEnum(field+name, mode, cri.NamespaceMode_name); err != nil {
			return err
		}
	}
	for name, mode := range map[string]cri.NamespaceMode{"network": n.Network, "ipc": n.Ipc} {
		if mode != cri.NamespaceMode_POD && mode != cri.NamespaceMode_NODE {
			return grpccode.Invalid(field+name, "%v is not possible, only POD and NODE", mode)
		}
	}
	if n.UsernsOptions != nil && n.UsernsOptions.Mode != cri.NamespaceMode_NODE {
		return grpccode.Invalid(field+"userns_options", "docker has no user namespace of a pod's own, only one for the whole daemon (userns-remap)")
	}
	return nil
}

// CheckContainer checks the configuration of a container. Errors name the field.
func CheckContainer(c *cri.ContainerConfig, sandbox *cri.PodSandboxConfig) error {
	if c == nil {
		return grpccode.Invalid("config", "is missing")
	}
	if c.Metadata == nil {
		return grpccode.Invalid("config.metadata", "is missing")
	}
	if err := checkPathElement("config.metadata.name", c.Metadata.Name); err != nil {
		return err
	}
	if c.GetImage().GetImage() == "" {
		return grpccode.Invalid("config.image.image", "is empty")
	}
	if c.Windows != nil {
		return grpccode.Invalid("config.windows", "this is a Linux runtime")
	}
	if _, err := LogPath(sandbox.GetLogDirectory(), c.LogPath); err != nil {
		return err
	}
	if err := CheckCommand("config.command", c.Command); err != nil {
		return err
	}
	if c.WorkingDir != "" {
		if err := checkAbsolute("config.working_dir", c.WorkingDir); err != nil {
			return err
		}
	}
	for _, e := range c.Envs {
		if e == nil || e.Key == "" || strings.ContainsAny(e.Key, "=\x00") || bytes.IndexByte(e.Value, 0) >= 0 {
			return grpccode.Invalid("config.envs", "%q is no name of an environment variable, or its value contains NUL", e.GetKey())
		}
	}
	if err := checkEnum("config.stop_signal", c.StopSignal, cri.Signal_name); err != nil {
		return err
	}
	for _, d := range c.Devices {
		if err := checkAbsolute("config.devices.host_path", d.GetHostPath()); err != nil {
			return err
		}
		if err := checkAbsolute("config.devices.container_path", d.GetContainerPath()); err != nil {
			return err
		}
		if strings.Trim(d.GetPermissions(), "rwm") != "" {
			return grpccode.Invalid("config.devices.permissions", "%q: want a combination of r, w and m", d.Permissions)
		}
	}
	security := c.GetLinux().GetSecurityContext()
	if err := checkNamespaces("config.linux.security_context", security.GetNamespaceOptions()); err != nil {
		return err
	}
	return CheckResources("config.linux.resources", c.GetLinux().GetResources())
}

// Bounds of the kernel, and one of Docker.
const (
	minMemory  = 6 << 20 // Docker's own
	minQuota   = 1000    // µs
	minPeriod  = 1000
	maxPeriod  = 1000000
	maxShares  = 262144
	oomLowest  = -1000
	oomHighest = 1000
)

// CheckResources checks cgroup values; field is their path in the request.
func CheckResources(field string, r *cri.LinuxContainerResources) error {
	if r == nil {
		return nil
	}
	bad := func(name, format string, args ...any) error { return grpccode.Invalid(field+"."+name, format, args...) }
	switch {
	case r.CpuPeriod != 0 && (r.CpuPeriod < minPeriod || r.CpuPeriod > maxPeriod):
		return bad("cpu_period", "%d is not within %d and %d microseconds", r.CpuPeriod, minPeriod, maxPeriod)
	case r.CpuQuota > 0 && r.CpuQuota < minQuota:
		return bad("cpu_quota", "%d is less than %d microseconds", r.CpuQuota, minQuota)
	case r.CpuShares < 0 || r.CpuShares > maxShares:
		return bad("cpu_shares", "%d is not within 2 and %d", r.CpuShares, maxShares)
	case r.MemoryLimitInBytes < 0:
		return bad("memory_limit_in_bytes", "%d is negative", r.MemoryLimitInBytes)
	case r.MemorySwapLimitInBytes < -1:
		return bad("memory_swap_limit_in_bytes", "%d is negative", r.MemorySwapLimitInBytes)
	case r.MemorySwapLimitInBytes > 0 && r.MemorySwapLimitInBytes < r.MemoryLimitInBytes:
		return bad("memory_swap_limit_in_bytes", "%d is less than the memory limit, which it includes", r.MemorySwapLimitInBytes)
	case r.OomScoreAdj < oomLowest || r.OomScoreAdj > oomHighest:
		return bad("oom_score_adj", "%d is not within -1000 and 1000", r.OomScoreAdj)
	}
	return nil
}

// LogPath joins the pod's log directory and the container's path below it. It returns "" for a
// container that is to have no log.
func LogPath(dir, path string) (string, error) {
	if path == "" || dir == "" {
		return "", nil
	}
	if !filepath.IsLocal(path) || strings.ContainsRune(path, 0) {
		return "", grpccode.Invalid("config.log_path", "%q does not stay in the pod's log directory", path)
	}
	if err := checkAbsolute("sandbox_config.log_directory", dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, path), nil
}

// maxImageWeight bounds docker.ImageFacts.Weight, in bytes. Docker sets no bound.
const maxImageWeight = 1 << 20

// CheckImage refuses an image that would make every list of its containers long, and a
// container whose program has too long a path.
func CheckImage(c *cri.ContainerConfig, facts docker.ImageFacts) error {
	name := c.Image.Image
	switch {
	case facts.Weight > maxImageWeight:
		return grpccode.Refused(codes.InvalidArgument, "config.image.image: the labels, environment, volumes and the like of %s are longer than 1 MiB", name)
	case facts.Wrong != "":
		return grpccode.Refused(codes.InvalidArgument, "config.image.image: %s has %s", name, facts.Wrong)
	case facts.Program(c.Command, c.Args) > bounds.MaxPath:
		return grpccode.Refused(codes.InvalidArgument, "the program that config.args or image %s names is longer than a path: %d bytes", name, bounds.MaxPath)
	}
	return nil
}
