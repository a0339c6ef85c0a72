package imageservice

import (
	"context"

	"github.com/docker/docker/api/types/image"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// streamedAtOnce keeps a message of StreamImages well under gRPC's limit of 4 MiB:
// an image takes about 300 bytes, and seldom more than 2 KiB.
const streamedAtOnce = 200

// ListImages lists all images, dangling ones included, or the one that the filter
// names. It costs one Docker call; uid and username, which Docker's list does not
// have, are in ImageStatus only.
func (s *Service) ListImages(ctx context.Context, req *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	list, err := s.list(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &cri.ListImagesResponse{Images: list}, nil
}

// StreamImages is ListImages in portions.
func (s *Service) StreamImages(req *cri.StreamImagesRequest, stream grpc.ServerStreamingServer[cri.StreamImagesResponse]) error {
	list, err := s.list(stream.Context(), req.GetFilter())
	if err != nil {
		return err
	}
	for len(list) > 0 {
		n := min(len(list), streamedAtOnce)
		if err := stream.Send(&cri.StreamImagesResponse{Images: list[:n]}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (s *Service) list(ctx context.Context, filter *cri.ImageFilter) ([]*cri.Image, error) {
	if filter.GetImage().GetImage() != "" {
		t, err := requested(filter.Image)
		if err != nil {
			return nil, err
		}
		found, err := s.find(ctx, t)
		if err != nil || found == nil {
			return nil, err
		}
		return []*cri.Image{s.fromInspect(found)}, nil
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	summaries, err := s.docker.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, statusError(err, "list images")
	}
	list := make([]*cri.Image, len(summaries))
	for i := range summaries {
		list[i] = s.fromSummary(&summaries[i])
	}
	return list, nil
}
