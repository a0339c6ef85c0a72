// Package imagevolume mounts images as volumes of containers (KEP-4639). Docker has no such
// mounts before 28.0, so the layers are mounted here, once an image and read-only, and each
// container gets a bind mount:
//
//	<dir>/<image id>/root     overlay of the image's layers
//	<dir>/<image id>/empty    a second layer, without which the kernel mounts none
//
// A label of the container names its images, so that nothing else is kept.
package imagevolume

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

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/dockerid"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// Mounts are the images that are mounted. The methods are safe for concurrent use.
type Mounts struct {
	dir        string
	engine     *docker.Engine
	containers *docker.Containers

	// creating is read-locked from the mounting of an image until its container exists, and
	// write-locked while images are unmounted.
	creating sync.RWMutex
	// mounting admits one call at a time: two containers may want the same image.
	mounting sync.Mutex
}

// New keeps the mounts below dir.
func New(dir string, engine *docker.Engine, containers *docker.Containers) *Mounts {
	return &Mounts{dir: dir, engine: engine, containers: containers}
}

// Mount mounts the images among the mounts of a container, and returns them by their index.
// They stay mounted until release is called, and after that as long as a container has them.
// Errors are worded for the client.
func (m *Mounts) Mount(ctx context.Context, mounts []*cri.Mount) (volumes map[int]docker.ImageVolume, release func(), err error) {
	m.creating.RLock()
	defer func() {
		if release == nil { // an error, or a panic that ends this call alone
			m.creating.RUnlock()
		}
	}()
	volumes = map[int]docker.ImageVolume{}
	for i, wanted := range mounts {
		if wanted.GetImage().GetImage() == "" {
			continue
		}
		v, err := m.volume(ctx, fmt.Sprintf("config.mounts[%d]", i), wanted)
		if err != nil {
			return nil, nil, err
		}
		volumes[i] = v
	}
	return volumes, m.creating.RUnlock, nil
}

func (m *Mounts) volume(ctx context.Context, field string, wanted *cri.Mount) (docker.ImageVolume, error) {
	img, err := m.engine.ImageInspect(ctx, wanted.Image.Image)
	if errdefs.IsNotFound(err) {
		return docker.ImageVolume{}, grpccode.Refused(codes.NotFound, "%s.image: image %q is not there", field, wanted.Image.Image)
	}
	if err != nil {
		return docker.ImageVolume{}, fmt.Errorf("%s.image: %w", field, err)
	}
	layers, err := layerDirs(img.GraphDriver.Data)
	if err != nil {
		return docker.ImageVolume{}, grpccode.Refused(codes.FailedPrecondition, "%s.image: storage driver %s: %v", field, img.GraphDriver.Name, err)
	}
	root, err := m.mount(img.ID, layers)
	if err != nil {
		return docker.ImageVolume{}, fmt.Errorf("%s.image: mount %s: %w", field, wanted.Image.Image, err)
	}
	named := wanted.Image.UserSpecifiedImage
	if named == "" {
		named = wanted.Image.Image
	}
	v := docker.ImageVolume{Path: wanted.ContainerPath, Named: named, ID: img.ID, SubPath: wanted.ImageSubPath}
	if v.Source, err = within(root, wanted.ImageSubPath); err != nil {
		return docker.ImageVolume{}, grpccode.Invalid(field+".image_sub_path", "%q in image %s: %v", wanted.ImageSubPath, named, err)
	}
	return v, nil
}

// layerDirs returns the directories of an image's layers, topmost first.
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

// mount mounts an image's layers, unless they are mounted, and returns where.
func (m *Mounts) mount(id string, layers []string) (string, error) {
	m.mounting.Lock()
	defer m.mounting.Unlock()
	dir := filepath.Join(m.dir, strings.TrimPrefix(id, "sha256:"))
	root, empty := filepath.Join(dir, "root"), filepath.Join(dir, "empty")
	if is, err := mountinfo.Mounted(root); err == nil && is {
		return root, nil
	}
	if err := durable.MakeWay(m.dir, "The images that containers have mounted. Restart those that miss files."); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return "", err
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

// within resolves a path as a process with this root directory would, so that no link of the
// image leads out of it.
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

// Release unmounts the images that no container has any more. While a container is being
// created it does nothing; it is called again from time to time.
func (m *Mounts) Release(ctx context.Context) {
	entries, err := os.ReadDir(m.dir)
	if err != nil || len(entries) == 0 || !m.creating.TryLock() {
		return
	}
	defer m.creating.Unlock()
	items, err := m.containers.List(ctx, "")
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
		if err := m.unmount(e.Name()); err != nil {
			klog.ErrorS(err, "Could not unmount an image that no container has any more", "imageID", e.Name())
		}
	}
}

// Remove releases all images, and removes the directory if nothing is left in it. No
// container may exist.
func (m *Mounts) Remove(ctx context.Context) {
	m.Release(ctx)
	_ = os.Remove(m.dir)
}

func (m *Mounts) unmount(name string) error {
	dir := filepath.Join(m.dir, name)
	root := filepath.Join(dir, "root")
	if is, err := mountinfo.Mounted(root); err == nil && is {
		if err := unix.Unmount(root, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(root), os.Remove(filepath.Join(dir, "empty")), os.Remove(dir))
}

// User names a container that has the image mounted; "" when none has.
func (m *Mounts) User(ctx context.Context, imageID string) string {
	items, err := m.containers.List(ctx, "")
	if err != nil {
		return ""
	}
	for _, it := range items {
		for _, v := range it.Volumes {
			if v.ID == imageID {
				return it.Identity.String()
			}
		}
	}
	return ""
}
