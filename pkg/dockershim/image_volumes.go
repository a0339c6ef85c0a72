package dockershim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/dockerid"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// imageMounts are the images that are mounted. Docker has no such mounts before 28.0, so we
// mount the layers ourselves, once an image, read-only, and the container gets a bind mount
// of that:
//
//	<state>/images/<image id>/root    overlay of the image's layers
//
// An image stays mounted as long as a container has it by its label.
type imageMounts struct {
	dir string
	// held for reading from an image's being mounted to its container's being there,
	// and for writing while images are unmounted.
	mu sync.RWMutex
	// one mounts at a time: two containers may want the same image.
	one sync.Mutex
}

// imageVolumes mounts the images that a container wants; by the mount's number.
func (s *Server) imageVolumes(ctx context.Context, mounts []*cri.Mount) (map[int]docker.ImageVolume, error) {
	volumes := map[int]docker.ImageVolume{}
	for i, m := range mounts {
		if m.GetImage().GetImage() == "" {
			continue
		}
		v, err := s.imageVolume(ctx, fmt.Sprintf("config.mounts[%d]", i), m)
		if err != nil {
			return nil, err
		}
		volumes[i] = v
	}
	return volumes, nil
}

func (s *Server) imageVolume(ctx context.Context, field string, m *cri.Mount) (docker.ImageVolume, error) {
	img, err := s.docker.ImageInspect(ctx, m.Image.Image)
	if errdefs.IsNotFound(err) {
		return docker.ImageVolume{}, grpccode.Refused(codes.NotFound, "%s.image: image %q is not there", field, m.Image.Image)
	}
	if err != nil {
		return docker.ImageVolume{}, fmt.Errorf("%s.image: %w", field, err)
	}
	layers, err := layerDirs(img.GraphDriver.Data)
	if err != nil {
		return docker.ImageVolume{}, grpccode.Refused(codes.FailedPrecondition, "%s.image: storage driver %s: %v", field, img.GraphDriver.Name, err)
	}
	root, err := s.mounted.mount(img.ID, layers)
	if err != nil {
		return docker.ImageVolume{}, fmt.Errorf("%s.image: mount %s: %w", field, m.Image.Image, err)
	}
	named := m.Image.UserSpecifiedImage
	if named == "" {
		named = m.Image.Image
	}
	v := docker.ImageVolume{Path: m.ContainerPath, Named: named, ID: img.ID, SubPath: m.ImageSubPath}
	if v.Source, err = within(root, m.ImageSubPath); err != nil {
		return docker.ImageVolume{}, grpccode.Invalid(field+".image_sub_path", "%q in image %s: %v", m.ImageSubPath, named, err)
	}
	return v, nil
}

// layerDirs are the directories of an image's layers, topmost first.
func layerDirs(data map[string]string) ([]string, error) {
	if data["UpperDir"] == "" {
		return nil, errors.New("it does not say where the image's layers are")
	}
	layers := []string{data["UpperDir"]}
	if lower := data["LowerDir"]; lower != "" {
		layers = append(layers, strings.Split(lower, ":")...)
	}
	return layers, nil
}

// maxOptions is how long the options of a mount may be, a page.
const maxOptions = 4095

// mount mounts an image's layers, unless they are, and returns where.
func (i *imageMounts) mount(id string, layers []string) (string, error) {
	i.one.Lock()
	defer i.one.Unlock()
	dir := filepath.Join(i.dir, strings.TrimPrefix(id, "sha256:"))
	root, empty := filepath.Join(dir, "root"), filepath.Join(dir, "empty")
	if is, err := mountinfo.Mounted(root); err == nil && is {
		return root, nil
	}
	for _, d := range []string{root, empty} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	// Without a writable layer the kernel wants two others.
	options := "lowerdir=" + strings.Join(append(layers, empty), ":")
	if len(options) > maxOptions {
		return "", errors.New("it has more layers than a mount can name")
	}
	const flags = unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("overlay", root, "overlay", flags, options); err != nil {
		return "", err
	}
	return root, nil
}

// within finds a path below root as a process whose root that is would: links in the
// image lead nowhere else.
func within(root, sub string) (string, error) {
	if sub == "" {
		return root, nil
	}
	if !filepath.IsLocal(sub) {
		return "", errors.New("the path leaves the image")
	}
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(base)
	fd, err := unix.Openat2(base, sub, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

// releaseImages unmounts the images that no container has any more. While a
// container is being created it leaves that to tidy.
func (s *Server) releaseImages(ctx context.Context) {
	entries, err := os.ReadDir(s.mounted.dir)
	if err != nil || len(entries) == 0 || !s.mounted.mu.TryLock() {
		return
	}
	defer s.mounted.mu.Unlock()
	items, err := s.view.List(ctx, "")
	if err != nil {
		return
	}
	used := map[string]bool{}
	for _, it := range items {
		for _, v := range it.Volumes {
			used[strings.TrimPrefix(v.ID, "sha256:")] = true
		}
	}
	for _, e := range entries {
		if used[e.Name()] || !dockerid.Is(e.Name()) {
			continue
		}
		if err := s.mounted.unmount(e.Name()); err != nil {
			klog.ErrorS(err, "Could not unmount an image that no container has any more", "imageID", e.Name())
		}
	}
}

func (i *imageMounts) unmount(name string) error {
	dir := filepath.Join(i.dir, name)
	root := filepath.Join(dir, "root")
	if is, err := mountinfo.Mounted(root); err == nil && is {
		if err := unix.Unmount(root, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(root), os.Remove(filepath.Join(dir, "empty")), os.Remove(dir))
}

// imageUser names a container that has an image mounted; "" when none has.
func (s *Server) imageUser(ctx context.Context, id string) string {
	items, err := s.view.List(ctx, "")
	if err != nil {
		return ""
	}
	for _, it := range items {
		for _, v := range it.Volumes {
			if v.ID == id {
				return it.Identity.String()
			}
		}
	}
	return ""
}
