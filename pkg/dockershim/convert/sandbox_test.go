package convert

import (
	"reflect"
	"testing"

	"github.com/docker/go-connections/nat"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

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
