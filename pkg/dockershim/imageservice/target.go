package imageservice

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// target is the image that a request means.
type target struct {
	// id is set for "sha256:<64 hex>" and for the 64 digits alone.
	id string
	// name is set otherwise, with a tag or else a digest. A reference with both
	// keeps the digest: that is what says which content is meant.
	name reference.Named
	// idPrefix is set as well when the text could be the beginning of an id, which
	// people give and programs do not; the name goes first.
	idPrefix string
}

var hexDigits = regexp.MustCompile(`^[0-9a-f]+$`)

// parseTarget reads an image reference. For anything else it returns an InvalidArgument error.
func parseTarget(image string) (target, error) {
	digits := strings.TrimPrefix(image, "sha256:")
	if len(digits) == 64 && hexDigits.MatchString(digits) {
		return target{id: "sha256:" + digits}, nil
	}
	if image == "" {
		return target{}, grpccode.Invalid("image.image", "the image has no name")
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return target{}, grpccode.Invalid("image.image", "%q: %v", image, err)
	}
	t := target{}
	if hexDigits.MatchString(digits) {
		t.idPrefix = digits
	}
	if digested, ok := named.(reference.Digested); ok {
		if digested.Digest().Algorithm() != digest.SHA256 {
			return target{}, grpccode.Invalid("image.image", "%q: Docker knows no digests but sha256", image)
		}
		named, err = reference.WithDigest(reference.TrimNamed(named), digested.Digest())
		if err != nil {
			return target{}, grpccode.Invalid("image.image", "%q: %v", image, err)
		}
	}
	t.name = reference.TagNameOnly(named)
	return t, nil
}

func (t target) String() string {
	if t.id != "" {
		return t.id
	}
	return reference.FamiliarString(t.name)
}

// matches reports whether an image with this ID and these names is meant.
func (t target) matches(id string, names ...[]string) bool {
	if t.id != "" {
		return id == t.id
	}
	for _, n := range names {
		if slices.Contains(n, t.String()) {
			return true
		}
	}
	return false
}

// requested returns the target of a request's image field.
func requested(spec *cri.ImageSpec) (target, error) {
	return parseTarget(spec.GetImage())
}

// find looks the image up; found is nil when there is none. Docker also finds images by the
// beginning of an ID, which is accepted only where the text could not mean anything else.
func (s *Service) find(ctx context.Context, t target) (found *image.InspectResponse, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	got, err := s.docker.ImageInspect(ctx, t.String())
	if err == nil {
		return &got, nil
	}
	if errdefs.IsNotFound(err) && t.idPrefix != "" {
		got, err = s.docker.ImageInspect(ctx, t.idPrefix)
		if err == nil && strings.HasPrefix(got.ID, "sha256:"+t.idPrefix) {
			return &got, nil
		}
	}
	if err == nil || errdefs.IsNotFound(err) {
		return nil, nil
	}
	return nil, statusError(err, "look for image %s", t)
}
