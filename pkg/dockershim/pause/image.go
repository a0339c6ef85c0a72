package pause

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
)

// Ref is the image's name. Its domain exists nowhere, so nothing can be pulled or
// pushed under it.
const Ref = "mini-kubelet.local/pause:1"

// Docker is what Ensure needs of a Docker client; *client.Client is one.
type Docker interface {
	imagetar.Loader
	ImageInspect(ctx context.Context, ref string, opts ...client.ImageInspectOption) (image.InspectResponse, error)
}

// Image is the pause image for a CPU architecture.
func Image(arch string) (imagetar.Image, error) {
	program, err := Program(arch)
	if err != nil {
		return imagetar.Image{}, err
	}
	return imagetar.Image{
		Refs: []string{Ref},
		Arch: arch,
		Config: ocispec.ImageConfig{
			Entrypoint: []string{"/pause"},
			// The program needs no privilege.
			User:       "65535:65535",
			WorkingDir: "/",
			StopSignal: "SIGTERM",
		},
		Files: []imagetar.File{imagetar.Bytes("pause", 0o555, program)},
	}, nil
}

// runs reports whether an image runs img's program as img does. It goes by the digest of the
// layer, which Docker has checked, and not by anything that the image says of itself.
func runs(found image.InspectResponse, img imagetar.Image, layer digest.Digest) bool {
	c := found.Config
	return c != nil && slices.Equal(found.RootFS.Layers, []string{layer.String()}) &&
		slices.Equal(c.Entrypoint, img.Config.Entrypoint) && len(c.Cmd) == 0 && c.User == img.Config.User &&
		len(c.Env) == 0 && len(c.Volumes) == 0
}

// Ensure puts the pause image for this machine's architecture into Docker unless Docker has it,
// and returns its ID. It may be called at any time, by several agents at once. When the image
// is present, it costs one Docker call.
func Ensure(ctx context.Context, docker Docker) (id string, err error) {
	img, err := Image(runtime.GOARCH)
	if err != nil {
		return "", err
	}
	layer, err := imagetar.Layer(img)
	if err != nil {
		return "", err
	}
	for loaded := false; ; loaded = true {
		found, err := docker.ImageInspect(ctx, Ref)
		switch {
		case err != nil && !errdefs.IsNotFound(err):
			return "", fmt.Errorf("look for the pause image: %w", err)
		case err == nil && runs(found, img, layer):
			return found.ID, nil
		case loaded && err != nil:
			return "", fmt.Errorf("the pause image vanished as soon as it was loaded: %w", err)
		case loaded:
			return "", fmt.Errorf("image %s is replaced by another as soon as it is loaded", Ref)
		}
		if _, err := imagetar.Load(ctx, docker, img); err != nil {
			return "", err
		}
	}
}
