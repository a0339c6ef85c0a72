package dockershim

import (
	"context"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// CheckpointContainer is not possible: Docker's checkpoints are experimental, only Docker can
// restore them, and they do not have the form of CRI's archive.
func (s *Server) CheckpointContainer(context.Context, *cri.CheckpointContainerRequest) (*cri.CheckpointContainerResponse, error) {
	return nil, grpccode.Refused(codes.Unimplemented, "docker cannot write a container checkpoint in the form that CRI asks for")
}

// CheckpointPod is not possible, likewise.
func (s *Server) CheckpointPod(context.Context, *cri.CheckpointPodRequest) (*cri.CheckpointPodResponse, error) {
	return nil, grpccode.Refused(codes.Unimplemented, "docker cannot write a checkpoint of all containers of a pod at one moment")
}

// RestorePod is not possible, likewise.
func (s *Server) RestorePod(context.Context, *cri.RestorePodRequest) (*cri.RestorePodResponse, error) {
	return nil, grpccode.Refused(codes.Unimplemented, "docker cannot restore a pod from a checkpoint")
}

// UpdatePodSandboxResources is not possible: in Docker a sandbox has no resources of its own.
// The client sets the limits of a pod on the cgroup that it makes for the pod.
func (s *Server) UpdatePodSandboxResources(context.Context, *cri.UpdatePodSandboxResourcesRequest) (*cri.UpdatePodSandboxResourcesResponse, error) {
	return nil, grpccode.Refused(codes.Unimplemented, "docker knows no resources of a pod as a whole; they are set on the pod's cgroup by whoever made it")
}
