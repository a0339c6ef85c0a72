package imageservice

import (
	"context"
	"errors"
	"strings"

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
	removeErr := s.remove(ctx, found)
	if removeErr == nil {
		klog.V(2).InfoS("Removed image", "image", t.String(), "imageID", found.ID)
		return &cri.RemoveImageResponse{}, nil
	}
	// Clients that remove the same image at the same time make Docker fail in various ways;
	// what counts is that the image is gone.
	if left, err := s.find(ctx, target{id: found.ID}); err == nil && left == nil {
		return &cri.RemoveImageResponse{}, nil
	}
	// A container may have been created since the check.
	if err := s.checkUnused(ctx, t, found.ID); err != nil {
		return nil, err
	}
	return nil, statusError(removeErr, "remove image %s", t)
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

// remove takes all names off the image and deletes it, at once if Docker agrees.
// An image on which others are built cannot be deleted before those. Without names it is not
// listed any more, and Docker deletes it with the last of the others.
func (s *Service) remove(ctx context.Context, img *image.InspectResponse) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	_, err := s.docker.ImageRemove(ctx, img.ID, image.RemoveOptions{Force: true, PruneChildren: true})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "dependent child") {
		return err
	}
	klog.V(2).InfoS("Image is the base of others, removing only its names", "imageID", img.ID)
	var errs []error
	for _, name := range append(docker.ImageNames(img.RepoTags), docker.ImageNames(img.RepoDigests)...) {
		_, err := s.docker.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
		if err != nil && !errdefs.IsNotFound(err) && !strings.Contains(err.Error(), "dependent child") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
