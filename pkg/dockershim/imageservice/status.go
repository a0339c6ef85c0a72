package imageservice

import (
	"context"
	"encoding/json"

	"github.com/docker/docker/api/types/image"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageStatus describes an image found by id, name with tag or digest, or the
// beginning of its id. An image that is missing is not an error: CRI wants a
// response without one.
func (s *Service) ImageStatus(ctx context.Context, req *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	t, err := requested(req.GetImage())
	if err != nil {
		return nil, err
	}
	found, err := s.find(ctx, t)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return &cri.ImageStatusResponse{}, nil
	}
	out := s.fromInspect(found)
	out.Spec.UserSpecifiedImage = req.Image.UserSpecifiedImage
	resp := &cri.ImageStatusResponse{Image: out}
	if req.Verbose {
		if resp.Info, err = verboseInfo(found); err != nil {
			return nil, statusError(err, "describe image %s", t)
		}
	}
	return resp, nil
}

// verboseInfo has the keys that crictl shows for containerd, and the storage driver.
func verboseInfo(in *image.InspectResponse) (map[string]string, error) {
	var config dockerspec.DockerOCIImageConfig
	if in.Config != nil {
		config = *in.Config
	}
	diffIDs := make([]digest.Digest, len(in.RootFS.Layers))
	for i, layer := range in.RootFS.Layers {
		diffIDs[i] = digest.Digest(layer)
	}
	info, err := json.Marshal(map[string]any{
		"chainID": identity.ChainID(diffIDs),
		"imageSpec": map[string]any{
			"created": in.Created, "author": in.Author, "architecture": in.Architecture, "variant": in.Variant, "os": in.Os,
			"config": config,
			"rootfs": map[string]any{"type": in.RootFS.Type, "diff_ids": diffIDs},
		},
		"storageDriver": in.GraphDriver.Name,
	})
	if err != nil {
		return nil, err
	}
	return map[string]string{"info": string(info)}, nil
}
