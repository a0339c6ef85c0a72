package convert

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

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
		"no sandbox":                   {func() error { return CheckSandbox(nil) }, "config: is missing"},
		"many labels":                  {sandbox(func(c *cri.PodSandboxConfig) { c.Labels = manyLabels(2000) }), "config.labels: with the annotations they are 20"},
		"many annotations":             {sandbox(func(c *cri.PodSandboxConfig) { c.Labels, c.Annotations = manyLabels(1000), manyLabels(1000) }), "config.labels: with the annotations"},
		"no metadata":                  {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata = nil }), "config.metadata: is missing"},
		"no name":                      {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Name = "" }), "config.metadata.name: is empty"},
		"no uid":                       {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Uid = "" }), "config.metadata.uid: is empty"},
		"name with a path":             {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Name = "../x" }), "config.metadata.name:"},
		"name that adds CNI arguments": {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Name = "a;IP=1.2.3.4" }), "config.metadata.name:"},
		"namespace with =":             {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Namespace = "a=b" }), "config.metadata.namespace:"},
		"uid with ;":                   {sandbox(func(c *cri.PodSandboxConfig) { c.Metadata.Uid = "a;b" }), "config.metadata.uid:"},
		"relative logs":                {sandbox(func(c *cri.PodSandboxConfig) { c.LogDirectory = "logs" }), "config.log_directory:"},
		"port of 70000":                {sandbox(func(c *cri.PodSandboxConfig) { c.PortMappings = []*cri.PortMapping{{ContainerPort: 70000}} }), "config.port_mappings.container_port:"},
		"protocol 9":                   {sandbox(func(c *cri.PodSandboxConfig) { c.PortMappings = []*cri.PortMapping{{Protocol: 9}} }), "config.port_mappings.protocol:"},
		"name server":                  {sandbox(func(c *cri.PodSandboxConfig) { c.DnsConfig = &cri.DNSConfig{Servers: []string{"dns"}} }), "config.dns_config.servers:"},
		"group without a user":         {sandbox(func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.RunAsGroup = &cri.Int64Value{Value: 1} }), "config.linux.security_context.run_as_group:"},
		"target of a sandbox":          {sandbox(func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_TARGET }), "config.linux.security_context.namespace_options.pid:"},
		"windows":                      {sandbox(func(c *cri.PodSandboxConfig) { c.Windows = &cri.WindowsPodSandboxConfig{} }), "config.windows:"},

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
		"mount options": {ctr(func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/x", ContainerPath: "/x", MountOptions: []string{"noexec"}}}
		}), "config.mounts[0].mount_options:"},
		"mount options of an image": {ctr(func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{Image: &cri.ImageSpec{Image: "i"}, ContainerPath: "/x", MountOptions: []string{"noexec"}}}
		}), "config.mounts[0].mount_options:"},
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

func manyLabels(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("l", i)] = "v"
	}
	return m
}
