package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// testPlatform is a Docker 20.10 on a host where /real is behind the link /link.
func testPlatform() Platform {
	return Platform{
		StateDir: "/state", APIVersion: "1.41", AppArmor: true,
		RealPath: func(p string) (string, error) {
			switch {
			case p == "/link":
				return "/real", nil
			case strings.HasPrefix(p, "/gone"):
				return "", &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
			}
			return p, nil
		},
		ReadFile: func(p string) ([]byte, error) {
			if p == "/profile.json" {
				return []byte("{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n"), nil
			}
			return nil, errors.New("no such file")
		},
	}
}

var testTime = time.Unix(1, 5)

func sandboxConfig(change func(*cri.PodSandboxConfig)) *cri.PodSandboxConfig {
	c := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "42", Attempt: 1},
		Hostname: "web", LogDirectory: "/logs/web",
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{}, Seccomp: &cri.SecurityProfile{},
		}},
	}
	if change != nil {
		change(c)
	}
	return c
}

func TestSandboxConversion(t *testing.T) {
	security := func(c *cri.PodSandboxConfig) *cri.LinuxSandboxSecurityContext { return c.Linux.SecurityContext }
	for name, tc := range map[string]struct {
		change  func(*cri.PodSandboxConfig)
		systemd bool
		handler string
		check   func(t *testing.T, c *docker.ContainerSpec)
	}{
		"plain": {nil, false, "", func(t *testing.T, c *docker.ContainerSpec) {
			want := map[string]string{
				docker.LabelType: docker.TypeSandbox, docker.LabelContainerName: "POD", docker.LabelStateDir: "/state", docker.LabelCreated: "1000000005",
			}
			if c.Name != "k8s_POD_web_default_42_1" || !reflect.DeepEqual(c.Config.Labels, want) {
				t.Errorf("%s with labels %v", c.Name, c.Config.Labels)
			}
			h := c.Host
			if h.NetworkMode != "bridge" || h.IpcMode != "shareable" || h.PidMode != "" || h.UTSMode != "" || h.LogConfig.Type != "none" ||
				h.ShmSize != 64<<20 || h.OomScoreAdj != -998 || h.CPUShares != 2 || c.Config.Hostname != "web" {
				t.Errorf("host config %+v", h)
			}
			if !reflect.DeepEqual(h.SecurityOpt, []string{"no-new-privileges"}) {
				t.Errorf("security options %q", h.SecurityOpt)
			}
		}},
		"host namespaces": {func(c *cri.PodSandboxConfig) {
			security(c).NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
			c.PortMappings = []*cri.PortMapping{{ContainerPort: 80, HostPort: 80}}
		}, false, "", func(t *testing.T, c *docker.ContainerSpec) {
			h := c.Host
			if h.NetworkMode != "host" || h.UTSMode != "host" || h.PidMode != "host" || h.IpcMode != "host" || c.Config.Hostname != "" || len(h.PortBindings) > 0 {
				t.Errorf("host config %+v, hostname %q", h, c.Config.Hostname)
			}
		}},
		"pid mode is kept": {func(c *cri.PodSandboxConfig) { security(c).NamespaceOptions.Pid = cri.NamespaceMode_CONTAINER }, false, "", func(t *testing.T, c *docker.ContainerSpec) {
			if c.Config.Labels[docker.LabelPIDMode] != "CONTAINER" || c.Host.PidMode != "" {
				t.Errorf("label %q, mode %q", c.Config.Labels[docker.LabelPIDMode], c.Host.PidMode)
			}
		}},
		"ports": {func(c *cri.PodSandboxConfig) {
			c.PortMappings = []*cri.PortMapping{
				{ContainerPort: 80, HostPort: 8080, HostIp: "127.0.0.1"}, {ContainerPort: 80, HostPort: 8081}, {ContainerPort: 53, HostPort: 53, Protocol: cri.Protocol_UDP}, {ContainerPort: 9},
			}
		}, false, "", func(t *testing.T, c *docker.ContainerSpec) {
			want := nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1", HostPort: "8080"}, {HostPort: "8081"}}, "53/udp": {{HostPort: "53"}}}
			if !reflect.DeepEqual(c.Host.PortBindings, want) || len(c.Config.ExposedPorts) != 2 {
				t.Errorf("bindings %v, exposed %v", c.Host.PortBindings, c.Config.ExposedPorts)
			}
		}},
		"dns with nothing to search": {func(c *cri.PodSandboxConfig) { c.DnsConfig = &cri.DNSConfig{Servers: []string{"10.0.0.10"}} }, false, "", func(t *testing.T, c *docker.ContainerSpec) {
			if !reflect.DeepEqual(c.Host.DNS, []string{"10.0.0.10"}) || !reflect.DeepEqual(c.Host.DNSSearch, []string{"."}) || !reflect.DeepEqual(c.Host.DNSOptions, []string{""}) {
				t.Errorf("dns %q, %q, %q", c.Host.DNS, c.Host.DNSSearch, c.Host.DNSOptions)
			}
		}},
		"user and groups": {func(c *cri.PodSandboxConfig) {
			security(c).RunAsUser, security(c).RunAsGroup, security(c).SupplementalGroups = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 2000}, []int64{7}
		}, false, "", func(t *testing.T, c *docker.ContainerSpec) {
			if c.Config.User != "1000:2000" || !reflect.DeepEqual(c.Host.GroupAdd, []string{"7"}) {
				t.Errorf("user %q, groups %q", c.Config.User, c.Host.GroupAdd)
			}
		}},
		"cgroup parent, cgroupfs": {func(c *cri.PodSandboxConfig) { c.Linux.CgroupParent = "/kubepods/pod42" }, false, "", func(t *testing.T, c *docker.ContainerSpec) {
			if c.Host.CgroupParent != "/kubepods/pod42" {
				t.Errorf("parent %q", c.Host.CgroupParent)
			}
		}},
		"cgroup parent, systemd": {func(c *cri.PodSandboxConfig) { c.Linux.CgroupParent = "/kubepods.slice/kubepods-pod42.slice" }, true, "", func(t *testing.T, c *docker.ContainerSpec) {
			if c.Host.CgroupParent != "kubepods-pod42.slice" {
				t.Errorf("parent %q", c.Host.CgroupParent)
			}
		}},
		"docker as handler": {nil, false, "docker", func(t *testing.T, c *docker.ContainerSpec) {
			if c.Host.Runtime != "" || c.Config.Labels[docker.LabelHandler] != "docker" {
				t.Errorf("runtime %q, label %q", c.Host.Runtime, c.Config.Labels[docker.LabelHandler])
			}
		}},
		"another handler": {nil, false, "kata", func(t *testing.T, c *docker.ContainerSpec) {
			if c.Host.Runtime != "kata" {
				t.Errorf("runtime %q", c.Host.Runtime)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := testPlatform()
			p.Systemd = tc.systemd
			config := sandboxConfig(tc.change)
			if err := CheckSandbox(config); err != nil {
				t.Fatal(err)
			}
			c, err := p.Sandbox(config, tc.handler, "pause", "bridge", testTime)
			if err != nil {
				t.Fatal(err)
			}
			tc.check(t, c)
		})
	}
}

func containerConfig(change func(*cri.ContainerConfig)) *cri.ContainerConfig {
	c := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "c", Attempt: 2},
		Image:    &cri.ImageSpec{Image: "sha256:abc", UserSpecifiedImage: "web:1"},
		LogPath:  "c/2.log",
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{},
			SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{}, Seccomp: &cri.SecurityProfile{}},
		},
	}
	if change != nil {
		change(c)
	}
	return c
}

var webPod = docker.Identity{Pod: "web", Namespace: "default", UID: "42", Attempt: 1}

func TestContainerConversion(t *testing.T) {
	security := func(c *cri.ContainerConfig) *cri.LinuxContainerSecurityContext { return c.Linux.SecurityContext }
	for name, tc := range map[string]struct {
		change func(*cri.ContainerConfig)
		check  func(t *testing.T, c *container.Config, h *container.HostConfig)
	}{
		"plain": {nil, func(t *testing.T, c *container.Config, h *container.HostConfig) {
			if h.NetworkMode != "container:sb" || h.IpcMode != "container:sb" || h.PidMode != "container:sb" {
				t.Errorf("namespaces %q, %q, %q", h.NetworkMode, h.IpcMode, h.PidMode)
			}
			if c.Labels[docker.LabelImage] != "web:1" || c.Labels[docker.LabelLogPath] != "/logs/web/c/2.log" || c.Labels[docker.LabelSandboxID] != "sb" || c.Image != "sha256:abc" {
				t.Errorf("image %q, labels %v", c.Image, c.Labels)
			}
			if h.MaskedPaths == nil || h.ReadonlyPaths == nil || len(h.SecurityOpt) != 0 || c.Healthcheck.Test[0] != "NONE" || *h.Init {
				t.Errorf("host config %+v", h)
			}
		}},
		"command, args, env": {func(c *cri.ContainerConfig) {
			c.Command, c.Args, c.Envs = []string{"sh"}, []string{"-c", "x"}, []*cri.KeyValue{{Key: "A", Value: []byte("b=c")}}
			c.WorkingDir, c.Tty, c.Stdin, c.StdinOnce, c.StopSignal = "/w", true, true, true, cri.Signal_SIGRTMINPLUS3
		}, func(t *testing.T, c *container.Config, h *container.HostConfig) {
			if !reflect.DeepEqual([]string(c.Entrypoint), []string{"sh"}) || !reflect.DeepEqual([]string(c.Cmd), []string{"-c", "x"}) || !reflect.DeepEqual(c.Env, []string{"A=b=c"}) ||
				c.WorkingDir != "/w" || !c.Tty || !c.OpenStdin || !c.StdinOnce || c.StopSignal != "SIGRTMIN+3" {
				t.Errorf("config %+v", c)
			}
		}},
		"pid of its own": {func(c *cri.ContainerConfig) { security(c).NamespaceOptions.Pid = cri.NamespaceMode_CONTAINER }, func(t *testing.T, _ *container.Config, h *container.HostConfig) {
			if h.PidMode != "" {
				t.Errorf("pid mode %q", h.PidMode)
			}
		}},
		"pid of another": {func(c *cri.ContainerConfig) {
			security(c).NamespaceOptions.Pid, security(c).NamespaceOptions.TargetId = cri.NamespaceMode_TARGET, "other"
		}, func(t *testing.T, _ *container.Config, h *container.HostConfig) {
			if h.PidMode != "container:other" {
				t.Errorf("pid mode %q", h.PidMode)
			}
		}},
		"capabilities": {func(c *cri.ContainerConfig) {
			security(c).Capabilities = &cri.Capability{AddCapabilities: []string{"CAP_NET_ADMIN", "sys_time"}, DropCapabilities: []string{"ALL"}}
		}, func(t *testing.T, _ *container.Config, h *container.HostConfig) {
			if !reflect.DeepEqual([]string(h.CapAdd), []string{"NET_ADMIN", "SYS_TIME"}) || !reflect.DeepEqual([]string(h.CapDrop), []string{"ALL"}) {
				t.Errorf("add %q, drop %q", h.CapAdd, h.CapDrop)
			}
		}},
		"profiles": {func(c *cri.ContainerConfig) {
			security(c).NoNewPrivs = true
			security(c).Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/profile.json"}
			security(c).Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "mine"}
			security(c).SelinuxOptions = &cri.SELinuxOption{Type: "t"}
		}, func(t *testing.T, _ *container.Config, h *container.HostConfig) {
			want := []string{"no-new-privileges", `seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`, "apparmor=mine", "label=type:t"}
			if !reflect.DeepEqual(h.SecurityOpt, want) {
				t.Errorf("security options %q, want %q", h.SecurityOpt, want)
			}
		}},
		"no profile is unconfined": {func(c *cri.ContainerConfig) { security(c).Seccomp = nil }, func(t *testing.T, _ *container.Config, h *container.HostConfig) {
			if !reflect.DeepEqual(h.SecurityOpt, []string{"seccomp=unconfined"}) {
				t.Errorf("security options %q", h.SecurityOpt)
			}
		}},
		"mounts": {func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{
				{HostPath: "/link", ContainerPath: "/a", Readonly: true},
				{HostPath: "/b", ContainerPath: "/b", Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL},
				{HostPath: "/c", ContainerPath: "/c", Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
			}
		}, func(t *testing.T, _ *container.Config, h *container.HostConfig) {
			want := []mount.Mount{
				{Type: mount.TypeBind, Source: "/real", Target: "/a", ReadOnly: true, BindOptions: &mount.BindOptions{}}, // Docker picks
				{Type: mount.TypeBind, Source: "/b", Target: "/b", BindOptions: &mount.BindOptions{Propagation: mount.PropagationRShared}},
				{Type: mount.TypeBind, Source: "/c", Target: "/c", BindOptions: &mount.BindOptions{Propagation: mount.PropagationRSlave}},
			}
			if !reflect.DeepEqual(h.Mounts, want) {
				t.Errorf("mounts %+v", h.Mounts)
			}
		}},
		"memory without a word about swap": {func(c *cri.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = 64 << 20 }, func(t *testing.T, _ *container.Config, h *container.HostConfig) {
			if h.Memory != 64<<20 || h.MemorySwap != 64<<20 {
				t.Errorf("memory %d, swap %d", h.Memory, h.MemorySwap)
			}
		}},
		"pids": {func(c *cri.ContainerConfig) { c.Linux.Resources.Unified = map[string]string{"pids.max": "10"} }, func(t *testing.T, _ *container.Config, h *container.HostConfig) {
			if h.PidsLimit == nil || *h.PidsLimit != 10 {
				t.Errorf("pids limit %v", h.PidsLimit)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			config := containerConfig(tc.change)
			if err := CheckContainer(config, sandboxConfig(nil)); err != nil {
				t.Fatal(err)
			}
			c, err := testPlatform().Container(ContainerRequest{SandboxID: "sb", Pod: webPod, Config: config, Sandbox: sandboxConfig(nil), LogPath: "/logs/web/c/2.log", Created: testTime})
			if err != nil {
				t.Fatal(err)
			}
			if c.Name != "k8s_c_web_default_42_2" {
				t.Errorf("name %q", c.Name)
			}
			tc.check(t, c.Config, c.Host)
		})
	}
}

// Each case breaks one thing of a good request; the error names the field.
func TestBadRequestsNameTheField(t *testing.T) {
	sandbox := func(change func(*cri.PodSandboxConfig)) func() error {
		return func() error {
			config := sandboxConfig(change)
			if err := CheckSandbox(config); err != nil {
				return err
			}
			_, err := testPlatform().Sandbox(config, "", "pause", "bridge", testTime)
			return err
		}
	}
	ctr := func(change func(*cri.ContainerConfig)) func() error {
		return func() error {
			config := containerConfig(change)
			if err := CheckContainer(config, sandboxConfig(nil)); err != nil {
				return err
			}
			_, err := testPlatform().Container(ContainerRequest{SandboxID: "sb", Pod: webPod, Config: config, Sandbox: sandboxConfig(nil), Created: testTime})
			return err
		}
	}
	for name, tc := range map[string]struct {
		try   func() error
		field string
	}{
		"no sandbox":           {func() error { return CheckSandbox(nil) }, "config: is missing"},
		"many labels":          {sandbox(func(c *cri.PodSandboxConfig) { c.Labels = manyLabels(2000) }), "config.labels: with the annotations they are 20"},
		"many annotations":     {sandbox(func(c *cri.PodSandboxConfig) { c.Labels, c.Annotations = manyLabels(1000), manyLabels(1000) }), "config.labels: with the annotations"},
		"no metadata":          {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata = nil }), "config.metadata: is missing"},
		"no name":              {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Name = "" }), "config.metadata.name: is empty"},
		"no uid":               {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Uid = "" }), "config.metadata.uid: is empty"},
		"name with a path":     {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Name = "../x" }), "config.metadata.name:"},
		"relative logs":        {sandbox(func(c *cri.PodSandboxConfig) { c.LogDirectory = "logs" }), "config.log_directory:"},
		"port of 70000":        {sandbox(func(c *cri.PodSandboxConfig) { c.PortMappings = []*cri.PortMapping{{ContainerPort: 70000}} }), "config.port_mappings.container_port:"},
		"protocol 9":           {sandbox(func(c *cri.PodSandboxConfig) { c.PortMappings = []*cri.PortMapping{{Protocol: 9}} }), "config.port_mappings.protocol:"},
		"name server":          {sandbox(func(c *cri.PodSandboxConfig) { c.DnsConfig = &cri.DNSConfig{Servers: []string{"dns"}} }), "config.dns_config.servers:"},
		"group without a user": {sandbox(func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.RunAsGroup = &cri.Int64Value{Value: 1} }), "config.linux.security_context.run_as_group:"},
		"target of a sandbox":  {sandbox(func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_TARGET }), "config.linux.security_context.namespace_options.pid:"},
		"windows":              {sandbox(func(c *cri.PodSandboxConfig) { c.Windows = &cri.WindowsPodSandboxConfig{} }), "config.windows:"},

		"no container":          {func() error { return CheckContainer(nil, nil) }, "config: is missing"},
		"no container metadata": {ctr(func(c *cri.ContainerConfig) { c.Metadata = nil }), "config.metadata: is missing"},
		"no image":              {ctr(func(c *cri.ContainerConfig) { c.Image = nil }), "config.image.image: is empty"},
		"climbing log":          {ctr(func(c *cri.ContainerConfig) { c.LogPath = "../../etc/passwd" }), "config.log_path:"},
		"absolute log":          {ctr(func(c *cri.ContainerConfig) { c.LogPath = "/etc/passwd" }), "config.log_path:"},
		"long program":          {ctr(func(c *cri.ContainerConfig) { c.Command = []string{strings.Repeat("x", bounds.MaxPath+1)} }), "config.command[0]: is 4096 bytes long"},
		"long work dir":         {ctr(func(c *cri.ContainerConfig) { c.WorkingDir = "/" + strings.Repeat("x", bounds.MaxPath) }), "config.working_dir: is 4096 bytes long"},
		"long mount": {ctr(func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/x", ContainerPath: "/" + strings.Repeat("x", bounds.MaxPath)}}
		}), "config.mounts[0].container_path: is 4096 bytes long"},
		"no confinement by a profile's name": {ctr(func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "localhost/unconfined"}
		}), "config.linux.security_context.apparmor.localhost_ref:"},
		"relative work dir": {ctr(func(c *cri.ContainerConfig) { c.WorkingDir = "w" }), "config.working_dir:"},
		"env":               {ctr(func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "a=b"}} }), "config.envs:"},
		"signal":            {ctr(func(c *cri.ContainerConfig) { c.StopSignal = 999 }), "config.stop_signal:"},
		"namespace mode":    {ctr(func(c *cri.ContainerConfig) { c.Linux.SecurityContext.NamespaceOptions.Ipc = 17 }), "config.linux.security_context.namespace_options.ipc:"},
		"target without id": {ctr(func(c *cri.ContainerConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_TARGET }), "config.linux.security_context.namespace_options.target_id:"},
		"seccomp profile": {ctr(func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/none"}
		}), "config.linux.security_context.seccomp.localhost_ref:"},
		"capability": {ctr(func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"a b"}}
		}), "config.linux.security_context.capabilities.add_capabilities:"},
		"missing volume of the client's own": {ctr(func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/gone", ContainerPath: "/x", SelinuxRelabel: true}}
		}), "config.mounts[0].host_path: /gone: does not exist"},
		"missing mount that climbs": {ctr(func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/gone/../gone", ContainerPath: "/x"}}
		}), "config.mounts[0].host_path: /gone/../gone: does not exist, and is not made because of its '..'"},
		"relative mount":    {ctr(func(c *cri.ContainerConfig) { c.Mounts = []*cri.Mount{{HostPath: "/x", ContainerPath: "x"}} }), "config.mounts[0].container_path:"},
		"mount on the root": {ctr(func(c *cri.ContainerConfig) { c.Mounts = []*cri.Mount{{HostPath: "/x", ContainerPath: "/./"}} }), "config.mounts[0].container_path:"},
		"rro without ro": {ctr(func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/x", ContainerPath: "/x", RecursiveReadOnly: true}}
		}), "config.mounts[0].recursive_read_only:"},
		"absurd memory":    {ctr(func(c *cri.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = -5 }), "config.linux.resources.memory_limit_in_bytes:"},
		"little memory":    {ctr(func(c *cri.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = 1000 }), "config.linux.resources.memory_limit_in_bytes:"},
		"absurd oom score": {ctr(func(c *cri.ContainerConfig) { c.Linux.Resources.OomScoreAdj = 5000 }), "config.linux.resources.oom_score_adj:"},
		"tiny quota":       {ctr(func(c *cri.ContainerConfig) { c.Linux.Resources.CpuQuota = 5 }), "config.linux.resources.cpu_quota:"},
		"swap below memory": {ctr(func(c *cri.ContainerConfig) {
			c.Linux.Resources.MemoryLimitInBytes, c.Linux.Resources.MemorySwapLimitInBytes = 64<<20, 32<<20
		}), "config.linux.resources.memory_swap_limit_in_bytes:"},
		"device": {ctr(func(c *cri.ContainerConfig) { c.Devices = []*cri.Device{nil} }), "config.devices.host_path:"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.try()
			if err == nil {
				t.Fatal("no error")
			}
			if grpccode.Of(err) != codes.InvalidArgument || !strings.HasPrefix(err.Error(), tc.field) {
				t.Errorf("%v: %v, want InvalidArgument: %s ...", grpccode.Of(err), err, tc.field)
			}
		})
	}
}

func TestMissingSourcesAreToBeMade(t *testing.T) {
	p := testPlatform()
	got, _, missing, err := p.mounts([]*cri.Mount{
		{HostPath: "/there", ContainerPath: "/a"},
		{HostPath: "/gone", ContainerPath: "/b"},
		{HostPath: "/link", ContainerPath: "/c"},
		{HostPath: "/gone/x//y/", ContainerPath: "/d", Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
	}, nil)
	if err != nil || !reflect.DeepEqual(missing, []string{"/gone", "/gone/x/y"}) {
		t.Errorf("missing %q, %v", missing, err)
	}
	for i, source := range []string{"/there", "/gone", "/real", "/gone/x/y"} {
		if got[i].Source != source {
			t.Errorf("source of mount %d is %s, want %s", i, got[i].Source, source)
		}
	}
	p.RealPath = func(path string) (string, error) {
		switch path {
		case "/":
			return "/", nil
		case "/run":
			return "/real", nil
		case "/file/x":
			return "", &fs.PathError{Op: "lstat", Path: path, Err: syscall.ENOTDIR}
		}
		return "", fs.ErrNotExist
	}
	got, _, missing, err = p.mounts([]*cri.Mount{{HostPath: "/run/a/b", ContainerPath: "/x"}}, nil)
	if err != nil || !reflect.DeepEqual(missing, []string{"/real/a/b"}) || got[0].Source != "/real/a/b" {
		t.Errorf("below a link: %q, %+v, %v", missing, got, err)
	}
	if _, _, _, err = p.mounts([]*cri.Mount{{HostPath: "/file/x/y", ContainerPath: "/x"}}, nil); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

// Docker's older form, which can relabel, names no propagation either.
func TestBindOptions(t *testing.T) {
	for want, m := range map[string]*cri.Mount{
		"Z":           {},
		"ro,Z":        {Readonly: true},
		"Z,rslave":    {Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		"ro,Z,rslave": {Readonly: true, Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
	} {
		if got := bindOptions(m, propagations[m.Propagation]); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPropagationComesBack(t *testing.T) {
	for given, want := range map[mount.Propagation]cri.MountPropagation{
		"":                        cri.MountPropagation_PROPAGATION_PRIVATE,
		mount.PropagationRPrivate: cri.MountPropagation_PROPAGATION_PRIVATE,
		mount.PropagationRSlave:   cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
		mount.PropagationRShared:  cri.MountPropagation_PROPAGATION_BIDIRECTIONAL,
	} {
		if got := criMount(container.MountPoint{Propagation: given}).Propagation; got != want {
			t.Errorf("%q comes back as %v, want %v", given, got, want)
		}
	}
}

func TestNetworkSandbox(t *testing.T) {
	config := sandboxConfig(func(c *cri.PodSandboxConfig) {
		c.PortMappings = []*cri.PortMapping{{ContainerPort: 80, HostPort: 8080}, {ContainerPort: 81}}
		c.Annotations = map[string]string{annotationIngress: "10M", annotationEgress: "1k"}
	})
	got, err := NetworkSandbox("id", config)
	if err != nil || len(got.Ports) != 1 || got.Ports[0].Protocol != "tcp" || got.Bandwidth.IngressRate != 1e7 || got.Bandwidth.EgressRate != 1000 || got.Bandwidth.EgressBurst == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"fast", "1", "1E"} {
		config.Annotations[annotationEgress] = bad
		if _, err := NetworkSandbox("id", config); grpccode.Of(err) != codes.InvalidArgument {
			t.Errorf("bandwidth %q: %v", bad, err)
		}
	}
}

func TestStopSignalsComeBack(t *testing.T) {
	for value, name := range cri.Signal_name {
		s := cri.Signal(value)
		if s == cri.Signal_RUNTIME_DEFAULT {
			continue
		}
		if got := criSignal(stopSignal(s)); got != s {
			t.Errorf("%s becomes %q and %v", name, stopSignal(s), got)
		}
	}
	for given, want := range map[string]cri.Signal{"": cri.Signal_SIGTERM, "TERM": cri.Signal_SIGTERM, "9": cri.Signal_SIGKILL, "SIGXYZ": cri.Signal_RUNTIME_DEFAULT, "99": cri.Signal_RUNTIME_DEFAULT} {
		if got := criSignal(given); got != want {
			t.Errorf("criSignal(%q) = %v, want %v", given, got, want)
		}
	}
}

// FuzzConversion: whatever a client sends, it is converted or refused, by the field
// and without a panic, and what is converted stays within its bounds.
func FuzzConversion(f *testing.F) {
	for _, m := range []proto.Message{
		&cri.CreateContainerRequest{Config: containerConfig(nil), SandboxConfig: sandboxConfig(nil)},
		&cri.CreateContainerRequest{Config: containerConfig(func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/x", ContainerPath: "/y"}}
			c.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"ALL"}}
		}), SandboxConfig: sandboxConfig(func(c *cri.PodSandboxConfig) { c.PortMappings = []*cri.PortMapping{{ContainerPort: 1, HostPort: 2}} })},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var req cri.CreateContainerRequest
		if proto.Unmarshal(data, &req) != nil {
			return
		}
		p := testPlatform()
		if err := CheckSandbox(req.SandboxConfig); err == nil {
			if _, err := p.Sandbox(req.SandboxConfig, "", "pause", "bridge", testTime); err != nil && grpccode.Of(err) != codes.InvalidArgument {
				t.Errorf("sandbox: %v", err)
			}
		}
		if err := CheckContainer(req.Config, req.SandboxConfig); err != nil {
			if grpccode.Of(err) != codes.InvalidArgument {
				t.Errorf("container: %v", err)
			}
			return
		}
		log, err := LogPath(req.SandboxConfig.GetLogDirectory(), req.Config.LogPath)
		if err != nil {
			return
		}
		if dir := req.SandboxConfig.GetLogDirectory(); log != "" && !strings.HasPrefix(log, strings.TrimSuffix(filepath.Clean(dir), "/")+"/") {
			t.Errorf("log %q is not below %q", log, dir)
		}
		if _, err := p.Container(ContainerRequest{SandboxID: "sb", Pod: webPod, Config: req.Config, Sandbox: req.SandboxConfig, LogPath: log, Created: testTime}); err != nil && grpccode.Of(err) != codes.InvalidArgument {
			t.Errorf("container: %v", err)
		}
	})
}

func manyLabels(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("l", i)] = "v"
	}
	return m
}
