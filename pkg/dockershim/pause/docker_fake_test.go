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
)

// memoryDocker is a daemon that knows one image name.
type memoryDocker struct {
	mu       sync.Mutex
	labels   map[string]string // of the image under Ref; nil: none
	loads    int
	inspects int
	loadable bool
}

func (d *memoryDocker) ImageInspect(context.Context, string, ...client.ImageInspectOption) (image.InspectResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inspects++

	if d.labels == nil {
		return image.InspectResponse{}, errdefs.ErrNotFound
	}
	config := &dockerspec.DockerOCIImageConfig{}
	config.Labels = d.labels
	return image.InspectResponse{ID: "sha256:1", Config: config}, nil
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
		d.labels = own.Config.Labels
	}
	return image.LoadResponse{Body: io.NopCloser(strings.NewReader(`{"stream":"Loaded"}`))}, nil
}
