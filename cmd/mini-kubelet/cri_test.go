package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func sampleContainers() []*cri.Container {
	labels := map[string]string{pods.LabelPodNamespace: "default", pods.LabelPodName: "web-n1"}
	return []*cri.Container{
		{
			Id: "0123456789abcdef0123", PodSandboxId: "fedcba9876543210", Metadata: &cri.ContainerMetadata{Name: "old", Attempt: 1},
			Image: &cri.ImageSpec{Image: "sha256:aaaaaaaaaaaabbbb"}, State: cri.ContainerState_CONTAINER_EXITED,
			CreatedAt: now.Add(-time.Hour).UnixNano(), Labels: labels,
		},
		{
			Id: "1123456789abcdef0123", PodSandboxId: "fedcba9876543210", Metadata: &cri.ContainerMetadata{Name: "web"},
			Image: &cri.ImageSpec{Image: "sha256:aaaaaaaaaaaabbbb", UserSpecifiedImage: "demo:1"}, State: cri.ContainerState_CONTAINER_RUNNING,
			CreatedAt: now.Add(-time.Minute).UnixNano(), Labels: labels,
		},
	}
}

func sampleImages() []*cri.Image {
	return []*cri.Image{
		{Id: "sha256:cccccccccccccccc", RepoTags: []string{"registry.local:5000/web:1", "registry.local:5000/web:latest"}, Size: 12345678},
		{Id: "sha256:bbbbbbbbbbbbbbbb", RepoTags: []string{"mini-kubelet/pause:1"}, Size: 999, Pinned: true},
		{Id: "sha256:dddddddddddddddd", RepoDigests: []string{"busybox@sha256:eeee"}, Size: 1500},
		{Id: "sha256:ffffffffffffffff", Size: 2000000000},
	}
}

func TestContainersTable(t *testing.T) {
	var out bytes.Buffer
	if err := printContainers(&out, sampleContainers(), "", now); err != nil {
		t.Fatal(err)
	}
	golden(t, "ps.txt", out.String())
}

func TestImagesTable(t *testing.T) {
	var out bytes.Buffer
	if err := printImages(&out, sampleImages(), ""); err != nil {
		t.Fatal(err)
	}
	golden(t, "images.txt", out.String())
}

// runtimeStub serves CRI with the sample containers and images, or an error.
type runtimeStub struct {
	cri.UnimplementedRuntimeServiceServer
	cri.UnimplementedImageServiceServer
	err error
}

func (r *runtimeStub) ListContainers(_ context.Context, req *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	resp := &cri.ListContainersResponse{}
	for _, c := range sampleContainers() {
		if f := req.GetFilter().GetState(); f == nil || f.State == c.State {
			resp.Containers = append(resp.Containers, c)
		}
	}
	return resp, r.err
}

func (r *runtimeStub) ListImages(context.Context, *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	return &cri.ListImagesResponse{Images: sampleImages()}, r.err
}

// serveCRI serves the stub on a socket and returns its endpoint.
func serveCRI(t *testing.T, stub *runtimeStub) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mk") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "cri.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(srv, stub)
	cri.RegisterImageServiceServer(srv, stub)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return "unix://" + path
}

func TestPsAndImagesOverCRI(t *testing.T) {
	endpoint := serveCRI(t, &runtimeStub{})
	out, errOut, code := command(t, "ps", "--runtime-endpoint", endpoint)
	if code != 0 || !strings.Contains(out, "web") || strings.Contains(out, "Exited") {
		t.Errorf("ps: %d %q %q, want only what runs", code, out, errOut)
	}
	if out, _, _ = command(t, "ps", "-a", "--runtime-endpoint", endpoint); !strings.Contains(out, "Exited") {
		t.Errorf("ps -a: %q, want what has ended, too", out)
	}
	out, errOut, code = command(t, "ps", "-a", "-o", "json", "--runtime-endpoint", endpoint)
	var list struct {
		Containers []struct {
			ID    string `json:"id"`
			State string `json:"state"`
		} `json:"containers"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list.Containers) != 2 || list.Containers[0].State != "CONTAINER_RUNNING" {
		t.Errorf("ps -o json: %d %v %q %q", code, err, out, errOut)
	}
	if out, errOut, code = command(t, "images", "-o", "yaml", "--runtime-endpoint", endpoint); code != 0 || !strings.HasPrefix(out, "images:\n- ") {
		t.Errorf("images -o yaml: %d %q %q", code, out, errOut)
	}
}

func TestErrorsOfTheRuntimeAreOnePlainLine(t *testing.T) {
	for name, tt := range map[string]struct{ endpoint, want string }{
		"nothing serves":  {"unix:///nonexistent/x.sock", "mini-kubelet: no container runtime answers at unix:///nonexistent/x.sock: start mini-kubelet, or"},
		"not a socket":    {"/var/run/x.sock", "mini-kubelet: --runtime-endpoint must be like unix:///"},
		"runtime refuses": {serveCRI(t, &runtimeStub{err: status.Error(codes.Unavailable, "Docker does not answer")}), "mini-kubelet: Docker does not answer\n"},
		"runtime fails":   {serveCRI(t, &runtimeStub{err: status.Error(codes.Unknown, "list containers: no")}), "mini-kubelet: list containers: no\n"},
	} {
		for _, sub := range []string{"ps", "images"} {
			out, errOut, code := command(t, sub, "--runtime-endpoint", tt.endpoint)
			if code == 0 || out != "" || !strings.HasPrefix(errOut, tt.want) || strings.Count(errOut, "\n") != 1 {
				t.Errorf("%s, %s: %d %q %q, want one line %q", name, sub, code, out, errOut, tt.want)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 999: "999B", 1500: "1.5kB", 12345678: "12.3MB", 2000000000: "2GB", 999999: "1MB"} {
		if got := humanSize(n); got != want {
			t.Errorf("humanSize(%d) = %s, want %s", n, got, want)
		}
	}
}
