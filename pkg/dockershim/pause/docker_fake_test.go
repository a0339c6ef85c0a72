package pause

import (
	"context"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
)

// memoryDocker is a daemon that knows one image name.
type memoryDocker struct {
	mu       sync.Mutex
	present  *image.InspectResponse // the image under Ref; nil: none
	loads    int
	inspects int
	loadable bool
}

func (d *memoryDocker) ImageInspect(context.Context, string, ...client.ImageInspectOption) (image.InspectResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inspects++

	if d.present == nil {
		return image.InspectResponse{}, errdefs.ErrNotFound
	}
	return *d.present, nil
}

// inspected is how Docker would show the image.
func inspected(img imagetar.Image) (*image.InspectResponse, error) {
	layer, err := imagetar.Layer(img)
	if err != nil {
		return nil, err
	}
	return &image.InspectResponse{
		ID: "sha256:1", RootFS: image.RootFS{Type: "layers", Layers: []string{layer.String()}},
		Config: &dockerspec.DockerOCIImageConfig{ImageConfig: img.Config},
	}, nil
}

func (d *memoryDocker) ImageLoad(_ context.Context, in io.Reader, _ ...client.ImageLoadOption) (image.LoadResponse, error) {
	if _, err := io.Copy(io.Discard, in); err != nil {
		return image.LoadResponse{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loads++
	if d.loadable {
		own, err := Image(runtime.GOARCH)
		if err != nil {
			return image.LoadResponse{}, err
		}
		if d.present, err = inspected(own); err != nil {
			return image.LoadResponse{}, err
		}
	}
	return image.LoadResponse{Body: io.NopCloser(strings.NewReader(`{"stream":"Loaded"}`))}, nil
}
