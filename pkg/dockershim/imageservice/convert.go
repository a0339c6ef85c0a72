package imageservice

import (
	"math"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/image"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

func (s *Service) fromSummary(in *image.Summary) *cri.Image {
	return s.image(in.ID, in.RepoTags, in.RepoDigests, in.Size)
}

func (s *Service) fromInspect(in *image.InspectResponse) *cri.Image {
	out := s.image(in.ID, in.RepoTags, in.RepoDigests, in.Size)
	if in.Config != nil {
		out.Uid, out.Username = imageUser(in.Config.User)
	}
	return out
}

func (s *Service) image(id string, tags, digests []string, size int64) *cri.Image {
	tags, digests = docker.ImageNames(tags), docker.ImageNames(digests)
	return &cri.Image{
		Id:          id,
		RepoTags:    tags,
		RepoDigests: digests,
		Size:        uint64(max(size, 1)), // CRI: must be > 0; an image may be empty
		Spec:        &cri.ImageSpec{Image: id},
		Pinned:      s.sandbox.matches(id, tags, digests),
	}
}

// imageUser splits an image's "user[:group]". CRI wants a number as uid, any other text as
// name, and neither when the image names no user, which means root.
func imageUser(user string) (*cri.Int64Value, string) {
	user, _, _ = strings.Cut(user, ":")
	if user == "" {
		return nil, ""
	}
	if uid, err := strconv.ParseInt(user, 10, 64); err == nil && uid >= 0 && uid <= math.MaxUint32 {
		return &cri.Int64Value{Value: uid}, ""
	}
	return nil, user
}
