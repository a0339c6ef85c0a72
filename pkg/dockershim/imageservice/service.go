// Package imageservice answers CRI's ImageService from Docker's images and keeps the
// sandbox image there. The dockershim registers it beside its RuntimeService; it
// keeps nothing that Docker could not tell again.
//
//	ListImages, StreamImages ─▶ one image list         PullImage ─▶ pull, watched for progress
//	ImageStatus ─▶ one inspect                         RemoveImage ─▶ inspect, users?, remove
//
// An image is identified by its id ("sha256:..."), which is Image.id,
// PullImageResponse.image_ref, and image_id of containers alike; a container's
// image_ref is docker.DigestedRef. Names are as Docker shows them: nginx:1, not
// docker.io/library/nginx:1; requests may use either.
// Credentials are given to nobody except Docker: no log and no error contains them.
package imageservice

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/pause"
)

// Docker is what the service asks of the engine; *client.Client is one.
type Docker interface {
	pause.Docker
	ImageList(ctx context.Context, options image.ListOptions) ([]image.Summary, error)
	ImageHistory(ctx context.Context, ref string, opts ...client.ImageHistoryOption) ([]image.HistoryResponseItem, error)
	ImagePull(ctx context.Context, ref string, options image.PullOptions) (io.ReadCloser, error)
	ImageTag(ctx context.Context, id, name string) error
	ImageRemove(ctx context.Context, ref string, options image.RemoveOptions) ([]image.DeleteResponse, error)
	ContainerList(ctx context.Context, options container.ListOptions) ([]container.Summary, error)
	Info(ctx context.Context) (system.Info, error)
}

// Config is what a Service is built from.
type Config struct {
	Docker Docker
	// SandboxImage is the name of the image that sandboxes run; empty: the built-in
	// one of package pause.
	SandboxImage string
	// PullProgressDeadline cancels a pull that receives nothing for so long; 1 min.
	PullProgressDeadline time.Duration
	// RequestTimeout bounds every Docker call except a pull; 2 min.
	RequestTimeout time.Duration
	// MountedBy names a container that has the image mounted as a volume, "" when
	// none has; nil: images are not mounted.
	MountedBy func(ctx context.Context, id string) string
	// WritableLayers gives what the containers' writable layers occupy, for
	// ImageFsInfo; nil: not reported. It must not block.
	WritableLayers func() (bytes, inodes uint64)
	// Observe hears of each pull, and how far it is; nil: nobody does.
	Observe docker.Observer
}

// Service implements cri.ImageServiceServer. It is safe for concurrent use.
type Service struct {
	cri.UnimplementedImageServiceServer

	cfg     Config
	docker  Docker
	sandbox target

	engine   engineInfo
	layers   layerSizes
	removing chan struct{} // full while an image is being removed
}

// New refuses a sandbox image that is not a valid reference.
func New(cfg Config) (*Service, error) {
	if cfg.Docker == nil {
		return nil, errors.New("images: no Docker client")
	}
	if cfg.PullProgressDeadline <= 0 {
		cfg.PullProgressDeadline = time.Minute
	}
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = 2 * time.Minute
	}
	if cfg.SandboxImage == "" {
		cfg.SandboxImage = pause.Ref
	}
	sandbox, err := parseTarget(cfg.SandboxImage)
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, docker: cfg.Docker, sandbox: sandbox, layers: layerSizes{byImage: map[string][]layer{}}, removing: make(chan struct{}, 1)}, nil
}

func (s *Service) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.RequestTimeout)
}

// engineInfo remembers what Docker says about itself: asking is costly, because Docker runs
// programs to learn their versions, and the answer changes only with a restart.
type engineInfo struct {
	mu      sync.Mutex
	asked   time.Time
	layers  string
	runtime map[string]bool
}

const engineInfoAge = 10 * time.Minute

// askEngine returns where Docker keeps layers and the names of its runtimes.
func (s *Service) askEngine(ctx context.Context) (layers string, runtimes map[string]bool, err error) {
	e := &s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.asked.IsZero() && time.Since(e.asked) < engineInfoAge {
		return e.layers, e.runtime, nil
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	info, err := s.docker.Info(ctx)
	if err != nil {
		return "", nil, statusError(err, "ask Docker for its data directory and runtimes")
	}
	e.asked, e.layers, e.runtime = time.Now(), layersDir(&info), map[string]bool{}
	for name := range info.Runtimes {
		e.runtime[name] = true
	}
	return e.layers, e.runtime, nil
}
