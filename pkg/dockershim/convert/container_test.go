package convert

import (
	"reflect"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

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
			c.WorkingDir, c.Tty, c.Stdin, c.StdinOnce, c.StopSignal = "/w", true, true, true, cri.Signal_SIGNAL_SIGRTMINPLUS3
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
