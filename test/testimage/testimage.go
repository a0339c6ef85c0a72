// Package testimage gives tests a Docker daemon to talk to, images made on the spot
// from the static busybox of this machine, and containers that go with the test.
// Tests only call it. Without Docker or busybox the test is skipped and says so.
package testimage

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
)

// label is on every image and container that this package makes.
const label = "io.mini-kubelet.test"

// Docker is a client of the machine's daemon.
func Docker(t testing.TB) *client.Client {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	if _, err := docker.Ping(t.Context()); err != nil {
		t.Skipf("no Docker daemon: %v", err)
	}
	return docker
}

// Busybox is the configuration and the files of an image with busybox and its
// usual applets, under the given names; it differs from that of other tests, so
// that removing it removes nothing of theirs.
func Busybox(t testing.TB, refs ...string) imagetar.Image {
	t.Helper()
	program, err := imagetar.HostFile("bin/busybox", 0o755, "/bin/busybox")
	if err != nil {
		t.Skipf("no static busybox (Debian: busybox-static): %v", err)
	}
	files := []imagetar.File{
		program,
		imagetar.Dir("tmp", 0o777|os.ModeSticky),
		imagetar.Bytes("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")),
	}
	for _, applet := range strings.Fields("sh sleep cat echo ls id env hostname nc wget kill ps true false mkdir dd ip grep head setsid mkfifo") {
		files = append(files, imagetar.Symlink("bin/"+applet, "busybox"))
	}
	return imagetar.Image{
		Refs:   refs,
		Config: ocispec.ImageConfig{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}, Labels: map[string]string{label: t.Name() + rand.Text()}},
		Files:  files,
	}
}

// Load puts an image into Docker until the test ends and returns its id.
func Load(t testing.TB, docker *client.Client, img imagetar.Image) (id string) {
	t.Helper()
	if _, err := imagetar.Load(t.Context(), docker, img); err != nil {
		t.Fatal(err)
	}
	for _, ref := range img.Refs {
		RemoveLater(t, docker, ref)
	}
	found, err := docker.ImageInspect(t.Context(), img.Refs[0])
	if err != nil {
		t.Fatal(err)
	}
	return found.ID
}

// LoadBusybox puts a busybox image into Docker until the test ends and returns
// its name.
func LoadBusybox(t testing.TB, docker *client.Client) (ref string) {
	t.Helper()
	ref = "mini-kubelet.test/busybox:" + strings.ToLower(rand.Text())
	Load(t, docker, Busybox(t, ref))
	return ref
}

// RemoveLater removes an image's name when the test ends, if it is there.
func RemoveLater(t testing.TB, docker *client.Client, ref string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		_, _ = docker.ImageRemove(ctx, ref, image.RemoveOptions{Force: true, PruneChildren: true})
	})
}

// Start runs a container until the test ends and returns its id.
func Start(t testing.TB, docker *client.Client, config container.Config, host container.HostConfig) (id string) {
	t.Helper()
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	config.Labels[label] = t.Name()
	created, err := docker.ContainerCreate(t.Context(), &config, &host, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := docker.ContainerRemove(ctx, created.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Logf("remove container %s: %v", created.ID, err)
		}
	})
	if err := docker.ContainerStart(t.Context(), created.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return created.ID
}
