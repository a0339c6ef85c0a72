package imageservice

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageFsInfo reports where Docker keeps images and containers and how much they occupy there,
// counting layers that images share once. It costs one Docker call, and one for each image
// that it has not seen before. The inodes of images are not reported: Docker does not know
// them.
func (s *Service) ImageFsInfo(ctx context.Context, _ *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	layers, _, err := s.askEngine(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	// Intermediate images of builds occupy room as well.
	list, err := s.docker.ImageList(ctx, image.ListOptions{All: true})
	if err != nil {
		return nil, statusError(err, "list images")
	}
	used, err := s.layers.total(ctx, s.docker, list)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	filesystem := func(bytes uint64) *cri.FilesystemUsage {
		return &cri.FilesystemUsage{
			Timestamp: now,
			FsId:      &cri.FilesystemIdentifier{Mountpoint: layers},
			UsedBytes: &cri.UInt64Value{Value: bytes},
		}
	}
	resp := &cri.ImageFsInfoResponse{ImageFilesystems: []*cri.FilesystemUsage{filesystem(used)}}
	if s.cfg.WritableLayers != nil {
		bytes, inodes := s.cfg.WritableLayers()
		containers := filesystem(bytes)
		containers.InodesUsed = &cri.UInt64Value{Value: inodes}
		resp.ContainerFilesystems = []*cri.FilesystemUsage{containers}
	}
	return resp, nil
}

// layersDir returns a directory on the file system that fills up with images and containers:
// Docker's data directory, unless the directory of its storage driver is a mount of its own, or
// containerd has the layers and keeps them elsewhere. Docker has images and the writable layers
// of containers on the same one.
func layersDir(info *system.Info) string {
	root := info.DockerRootDir
	driver := filepath.Base(info.Driver)
	dirs := []string{filepath.Join(root, driver)}
	if slices.Contains(info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"}) {
		dirs = nil
		for _, of := range []string{filepath.Join(root, "containerd", "daemon"), "/var/lib/containerd"} {
			dirs = append(dirs, filepath.Join(of, "io.containerd.snapshotter.v1."+driver))
		}
	}
	for _, dir := range dirs {
		var here, there unix.Stat_t
		if unix.Stat(dir, &there) != nil {
			continue
		}
		if unix.Stat(root, &here) == nil && here.Dev != there.Dev {
			return dir
		}
		return root
	}
	return root
}

// layer is one step of an image's history. Images built on one another share the
// beginning of their histories, and a step's key covers all steps before it, so
// equal keys are the same layer on disk.
type layer struct {
	key  [sha256.Size]byte
	size uint64
}

// layerSizes remembers the histories of images, which never change.
type layerSizes struct {
	mu      sync.Mutex
	byImage map[string][]layer
}

// total returns what the listed images occupy together.
func (l *layerSizes) total(ctx context.Context, docker Docker, list []image.Summary) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := make(map[string][]layer, len(list))
	counted := map[[sha256.Size]byte]bool{}
	var sum uint64
	for i := range list {
		id := list[i].ID
		layers, ok := l.byImage[id]
		if !ok {
			history, err := docker.ImageHistory(ctx, id)
			if errdefs.IsNotFound(err) { // removed since the list was made
				continue
			}
			if err != nil {
				return 0, statusError(err, "read the layer sizes of image %s", id)
			}
			layers = layersOf(history)
		}
		known[id] = layers
		for _, one := range layers {
			if !counted[one.key] {
				counted[one.key] = true
				sum += one.size
			}
		}
	}
	l.byImage = known // forgets removed images
	return sum, nil
}

// layersOf reads a history, which begins with the newest step.
func layersOf(history []image.HistoryResponseItem) []layer {
	var layers []layer
	var key [sha256.Size]byte
	for i := len(history) - 1; i >= 0; i-- {
		step := history[i]
		key = sha256.Sum256(fmt.Appendf(key[:], "%d %d %q %q", step.Created, step.Size, step.CreatedBy, step.Comment))
		if step.Size > 0 {
			layers = append(layers, layer{key, uint64(step.Size)})
		}
	}
	return layers
}
