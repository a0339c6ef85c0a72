// Command demo-image builds cmd/demo and loads it into Docker as an image, through
// the Docker API alone: nothing is pulled, and no Dockerfile or builder is needed.
// `make run` calls it; the image's content determines its id, so repeating it
// changes nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
)

// ref is the image's name in manifests/. Its domain does not exist.
const ref = "mini-kubelet.local/demo:v1"

func main() {
	name := flag.String("name", ref, "the image's name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *name, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo-image:", err)
		os.Exit(1)
	}
}

// run makes the image available under that name, and says on out what it did.
func run(ctx context.Context, ref string, out io.Writer) error {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return fmt.Errorf("make a Docker client: %w", err)
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
	img, err := build(ctx, ref, filepath.Join(dir, "demo"))
	if err != nil {
		return err
	}
	did, id, err := ensure(ctx, docker, img)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "image %s %s (%.19s)\n", ref, did, id)
	return err
}

// build compiles cmd/demo to the file program, from which the image is made.
func build(ctx context.Context, ref, program string) (imagetar.Image, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program,
		"github.com/mini-kubelet/mini-kubelet/cmd/demo")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return imagetar.Image{}, fmt.Errorf("build cmd/demo: %w\n%s", err, text)
	}
	file, err := imagetar.HostFile("demo", 0o755, program)
	if err != nil {
		return imagetar.Image{}, err
	}
	return imagetar.Image{
		Refs:   []string{ref},
		Config: ocispec.ImageConfig{Entrypoint: []string{"/demo"}, Cmd: []string{"web"}, User: "65534:65534"},
		Files:  []imagetar.File{file, imagetar.Dir("tmp", 0o777|fs.ModeSticky)},
	}, nil
}

// ensure loads the image unless Docker has it under its name. A daemon with
// containerd's image store assigns other ids; there it is loaded each time.
func ensure(ctx context.Context, docker *client.Client, img imagetar.Image) (did, id string, err error) {
	id, err = imagetar.Write(io.Discard, img)
	if err != nil {
		return "", "", err
	}
	found, err := docker.ImageInspect(ctx, img.Refs[0])
	if err == nil && found.ID == id {
		return "is in Docker already", id, nil
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return "", "", fmt.Errorf("look for image %s: %w", img.Refs[0], err)
	}
	if id, err = imagetar.Load(ctx, docker, img); err != nil {
		return "", "", err
	}
	return "loaded into Docker", id, nil
}
