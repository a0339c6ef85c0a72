package imageservice

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// RemoveImage removes an image with all its names, whichever of them is given, and
// succeeds when it is gone already (cri-api: "This call is idempotent", "removing
// the image by a single tag will remove all of its tags"). Pinned images are
// removed too: pinning is advice to the caller. An image that a container uses,
// running or not, keeps all its names: FailedPrecondition.
func (s *Service) RemoveImage(ctx context.Context, req *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	t, err := requested(req.GetImage())
	if err != nil {
		return nil, err
	}
	// An image loses its names first and is there for some time without them. Whoever asks
	// for it by a name meanwhile would hear that it is gone.
	select {
	case s.removing <- struct{}{}:
		defer func() { <-s.removing }()
	case <-ctx.Done():
		return nil, statusError(ctx.Err(), "remove image %s", t)
	}
	found, err := s.find(ctx, t)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return &cri.RemoveImageResponse{}, nil
	}
	if err := s.checkUnused(ctx, t, found.ID); err != nil {
		return nil, err
	}
	isBase, removeErr := s.remove(ctx, t, found)
	// Others who remove the same image from Docker make it fail in various ways, or succeed
	// too early; what counts is that the image is gone.
	if removeErr == nil && isBase || s.awaitGone(ctx, found.ID) || removeErr == nil {
		klog.V(2).InfoS("Removed image", "image", t.String(), "imageID", found.ID)
		return &cri.RemoveImageResponse{}, nil
	}
	// A container may have been created since the check.
	if err := s.checkUnused(ctx, t, found.ID); err != nil {
		return nil, err
	}
	return nil, statusError(removeErr, "remove image %s", t)
}

// goneWithin is how long an image may stay that is being removed. One that is still there then
// has been pulled again, or is kept.
const goneWithin = 2 * time.Second

// awaitGone waits until Docker does not have the image any more, and reports whether it has not.
func (s *Service) awaitGone(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, goneWithin)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if left, err := s.find(ctx, target{id: id}); err != nil || left == nil {
			return err == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// checkUnused fails when a container is made from exactly this image, or has it mounted.
func (s *Service) checkUnused(ctx context.Context, t target, id string) error {
	if s.cfg.MountedBy != nil {
		if user := s.cfg.MountedBy(ctx, id); user != "" {
			return grpccode.Refused(codes.FailedPrecondition, "remove image %s: container %s has it mounted", t, user)
		}
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	users, err := s.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("ancestor", id))})
	switch {
	case errdefs.IsNotFound(err): // the image went meanwhile
		return nil
	case err != nil:
		return statusError(err, "look for containers of image %s", t)
	}
	for _, c := range users {
		if c.ImageID != id { // made from an image built on this one
			continue
		}
		name := c.ID
		if len(c.Names) > 0 {
			name = strings.TrimPrefix(c.Names[0], "/")
		}
		return grpccode.Refused(codes.FailedPrecondition, "remove image %s: container %s (%s) uses it", t, name, c.State)
	}
	return nil
}

// remove takes all names off the image and deletes it, if Docker agrees. It is never forced: an
// image for which somebody else has just created a container has to stay, with its names.
// An image on which others are built cannot be deleted before those. Without names it is not
// listed any more, and Docker deletes it with the last of the others; isBase then tells.
// What fails leaves the image its tags.
func (s *Service) remove(ctx context.Context, t target, img *image.InspectResponse) (isBase bool, err error) {
	var lost []string // tags, as far as is known
	defer func() {
		if err != nil {
			s.rename(ctx, img.ID, lost)
		}
	}()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	tags, digests := docker.ImageNames(img.RepoTags), docker.ImageNames(img.RepoDigests)
	for {
		_, err = s.docker.ImageRemove(bounded, img.ID, image.RemoveOptions{PruneChildren: true})
		switch {
		case err == nil || errdefs.IsNotFound(err):
			return false, nil
		case !errdefs.IsConflict(err):
			lost = append(lost, tags...) // names go first
			return false, err
		case strings.Contains(err.Error(), "dependent child"):
			klog.V(2).InfoS("Image is the base of others, removing only its names", "imageID", img.ID)
			lost = append(lost, tags...)
			return true, s.unname(bounded, append(tags, digests...))
		}
		// Docker deletes by ID what has one name.
		var next string
		switch unused := s.checkUnused(bounded, t, img.ID) == nil; {
		case unused && len(tags) > 1:
			next, tags = tags[0], tags[1:]
			lost = append(lost, next)
		case unused && len(digests) > 0:
			next, digests = digests[0], digests[1:]
		default:
			return false, err
		}
		if err := s.unname(bounded, []string{next}); err != nil {
			return false, err
		}
	}
}

// unname takes names off an image.
func (s *Service) unname(ctx context.Context, names []string) error {
	var errs []error
	for _, name := range names {
		_, err := s.docker.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
		if err != nil && !errdefs.IsNotFound(err) && !strings.Contains(err.Error(), "dependent child") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// renameWithin is how long it may take to give an image its tags again, also for a caller who waits no
// longer.
const renameWithin = 30 * time.Second

// rename gives an image that stays the tags again that it has lost, unless somebody has them now:
// a pull may have given them to a newer image. Digests cannot be given; whoever uses one pulls again.
func (s *Service) rename(ctx context.Context, id string, lost []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renameWithin)
	defer cancel()
	for _, tag := range lost {
		_, err := s.docker.ImageInspect(ctx, tag)
		if errdefs.IsNotFound(err) {
			err = s.docker.ImageTag(ctx, id, tag)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			klog.ErrorS(err, "Could not give an image its name again that was not removed after all", "imageID", id, "name", tag)
		}
	}
}
