package dockershim

import (
	"context"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// ListPodSandbox lists sandboxes, newest first.
func (s *Server) ListPodSandbox(ctx context.Context, req *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	f := req.GetFilter()
	items, err := s.containers.List(ctx, f.GetLabelSelector()[docker.LabelPodUID])
	if err != nil {
		return nil, err
	}
	resp := &cri.ListPodSandboxResponse{}
	for i := range items {
		it := &items[i]
		if !it.IsSandbox || !it.Matches(f.GetId(), f.GetLabelSelector()) {
			continue
		}
		ready, _, err := s.readiness(it.ID, it.State, it.NetworkMode)
		if err != nil { // its status says so; the others are to be listed
			ready = it.State == docker.StateRunning
		}
		sandbox := convert.ListedSandbox(it, ready)
		if want := f.GetState(); want != nil && want.State != sandbox.State {
			continue
		}
		resp.Items = append(resp.Items, sandbox)
	}
	return resp, nil
}

// StreamPodSandboxes is ListPodSandbox in pieces.
func (s *Server) StreamPodSandboxes(req *cri.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxesResponse]) error {
	all, err := s.ListPodSandbox(stream.Context(), &cri.ListPodSandboxRequest{Filter: req.GetFilter()})
	if err != nil {
		return err
	}
	return inChunks(all.Items, func(part []*cri.PodSandbox) error {
		return stream.Send(&cri.StreamPodSandboxesResponse{PodSandboxes: part})
	})
}
