package dockershim

import (
	"context"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imageservice"
)

// imageRPCs are those of the ImageService, with what has to be forgotten when images change.
type imageRPCs struct {
	*imageservice.Service
	images *docker.Images
}

// PullImage is the ImageService's.
func (i imageRPCs) PullImage(ctx context.Context, req *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	defer i.images.Forget()
	return i.Service.PullImage(ctx, req)
}

// RemoveImage is the ImageService's.
func (i imageRPCs) RemoveImage(ctx context.Context, req *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	defer i.images.Forget()
	return i.Service.RemoveImage(ctx, req)
}
