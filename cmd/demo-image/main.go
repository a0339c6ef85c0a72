// Command demo-image builds cmd/demo and puts it into Docker as an image, by the
// Docker API alone: nothing is pulled, and no Dockerfile or builder is needed.
// `make run` calls it; the image's content decides its id, so doing it again
// changes nothing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
)

// ref is the image's name in manifests/. Its domain exists nowhere.
const ref = "mini-kubelet.local/demo:v1"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo-image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	defer docker.Close()
	if _, err := docker.Ping(ctx); err != nil {
		return fmt.Errorf("docker must run to make the demo image: %w", err)
	}
	dir, err := os.MkdirTemp("", "demo-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "demo")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program,
		"github.com/mini-kubelet/mini-kubelet/cmd/demo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build cmd/demo: %w\n%s", err, text)
	}
	file, err := imagetar.HostFile("demo", 0o755, program)
	if err != nil {
		return err
	}
	id, err := imagetar.Load(ctx, docker, imagetar.Image{
		Refs:   []string{ref},
		Config: ocispec.ImageConfig{Entrypoint: []string{"/demo"}, Cmd: []string{"web"}, User: "65534:65534"},
		Files:  []imagetar.File{file},
	})
	if err != nil {
		return fmt.Errorf("load image %s: %w", ref, err)
	}
	fmt.Printf("image %s is in Docker (%.19s)\n", ref, id)
	return nil
}
