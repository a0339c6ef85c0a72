package dockershim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/test/dockertest"
)

// emptyDocker has nothing, and makes nothing.
func emptyDocker(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
	case strings.HasSuffix(r.URL.Path, "/info"):
		fmt.Fprint(w, `{"DockerRootDir":"/nonexistent","CgroupDriver":"cgroupfs"}`)
	case strings.HasSuffix(r.URL.Path, "/version"):
		fmt.Fprint(w, `{"Version":"20.10"}`)
	case r.Method == http.MethodGet && (strings.HasSuffix(r.URL.Path, "/containers/json") || strings.HasSuffix(r.URL.Path, "/images/json")):
		fmt.Fprint(w, `[]`)
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"there is nothing"}`)
	}
}

var errNoRequest = errors.New("no request")

// FuzzRequest: whatever bytes a client sends as the request of whatever call, the call returns,
// and what is refused is refused by a code that says why.
func FuzzRequest(f *testing.F) {
	dir := f.TempDir()
	s, err := New(f.Context(), Config{
		DockerEndpoint: dockertest.Serve(f, http.HandlerFunc(emptyDocker)), StateDir: dir, NetworkPlugin: "docker",
		Listen: "unix://" + filepath.Join(dir, "s"), CNIConfDir: filepath.Join(dir, "cni"),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		s.streams.Close()
		s.docker.Close()
	})
	// Requests name files of this machine.
	s.platform.ReadFile = func(string) ([]byte, error) { return nil, errors.New("nothing is read") }
	s.platform.RealPath = func(path string) (string, error) { return path, nil }
	type call struct {
		name   string
		handle func(ctx context.Context, data []byte) (any, error)
	}
	var calls []call
	for _, svc := range []struct {
		desc   *grpc.ServiceDesc
		server any
	}{{&cri.RuntimeService_ServiceDesc, s}, {&cri.ImageService_ServiceDesc, imageRPCs{s.imageService, s.images}}} {
		for _, m := range svc.desc.Methods {
			calls = append(calls, call{m.MethodName, func(ctx context.Context, data []byte) (any, error) {
				return m.Handler(svc.server, ctx, func(into any) error {
					if proto.Unmarshal(data, into.(proto.Message)) != nil {
						return errNoRequest
					}
					return nil
				}, nil)
			}})
		}
	}
	metadata := &cri.PodSandboxMetadata{Name: "p", Namespace: "n", Uid: "u"}
	for _, m := range []proto.Message{
		&cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{Metadata: metadata, Labels: map[string]string{"a": "b"}}},
		&cri.CreateContainerRequest{PodSandboxId: "s", Config: &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: "c"}, Image: &cri.ImageSpec{Image: "i"}},
			SandboxConfig: &cri.PodSandboxConfig{Metadata: metadata}},
		&cri.ExecSyncRequest{ContainerId: "c", Cmd: []string{"true"}, Timeout: 1}, &cri.PortForwardRequest{PodSandboxId: "s", Port: []int32{80}},
		&cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: "a", LabelSelector: map[string]string{"a": "b"}}},
		&cri.PullImageRequest{Image: &cri.ImageSpec{Image: "test.local/a:1"}, Auth: &cri.AuthConfig{Auth: "YTpi"}}, &cri.VersionRequest{},
		&cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: "10.0.0.0/24"}}},
		&cri.UpdateContainerResourcesRequest{ContainerId: "c", Linux: &cri.LinuxContainerResources{CpuPeriod: 1}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		for i := range calls {
			f.Add(uint8(i), data)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		c := calls[int(which)%len(calls)]
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		reply, err := c.handle(ctx, data)
		if ctx.Err() != nil {
			t.Errorf("%s does not return", c.name)
		}
		if err == nil {
			if _, err := proto.Marshal(reply.(proto.Message)); err != nil {
				t.Errorf("%s: the reply cannot be sent: %v", c.name, err)
			}
			return
		}
		if errors.Is(err, errNoRequest) {
			return // gRPC does not call anybody with it
		}
		if code := grpccode.Of(err); code == codes.OK || code == codes.Internal {
			t.Errorf("%s: %v: %v", c.name, code, err)
		}
	})
}
