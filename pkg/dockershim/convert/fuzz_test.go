package convert

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// FuzzConversion: whatever a client sends is converted, or refused by the name of a field; it
// causes no panic, and what is converted stays within its bounds.
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
