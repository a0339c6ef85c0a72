package dockershim

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// ListContainers lists containers, newest first.
func (s *Server) ListContainers(ctx context.Context, req *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	f := req.GetFilter()
	items, err := s.containers.List(ctx, f.GetLabelSelector()[docker.LabelPodUID])
	if err != nil {
		return nil, err
	}
	resp := &cri.ListContainersResponse{}
	for i := range items {
		it := &items[i]
		if !selects(it, f.GetId(), f.GetPodSandboxId(), f.GetLabelSelector()) {
			continue
		}
		if want := f.GetState(); want != nil && want.State != convert.ContainerState(it.State) {
			continue
		}
		resp.Containers = append(resp.Containers, convert.ListedContainer(it, s.imageRef(ctx)))
	}
	return resp, nil
}

// selects reports whether these filters let a container through: prefixes of its ID and of its
// sandbox's, and labels. Sandboxes are not let through.
func selects(it *docker.Item, id, sandboxID string, labels map[string]string) bool {
	return !it.IsSandbox && strings.HasPrefix(it.SandboxID, sandboxID) && it.Matches(id, labels)
}

// StreamContainers is ListContainers in pieces.
func (s *Server) StreamContainers(req *cri.StreamContainersRequest, stream grpc.ServerStreamingServer[cri.StreamContainersResponse]) error {
	all, err := s.ListContainers(stream.Context(), &cri.ListContainersRequest{Filter: req.GetFilter()})
	if err != nil {
		return err
	}
	return inChunks(all.Containers, func(part []*cri.Container) error {
		return stream.Send(&cri.StreamContainersResponse{Containers: part})
	})
}
