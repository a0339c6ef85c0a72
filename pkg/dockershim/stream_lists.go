package dockershim

import (
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// streamChunk is how many entries one message of a streamed list carries, so that
// no list is too long for a message (KEP CRIListStreaming).
const streamChunk = 100

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

// inChunks sends a list in pieces; of an empty one, nothing.
func inChunks[T any](all []T, send func([]T) error) error {
	for len(all) > 0 {
		n := min(streamChunk, len(all))
		if err := send(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}
