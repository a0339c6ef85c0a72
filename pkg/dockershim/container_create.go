package dockershim

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/hostdir"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// CreateContainer creates a container in a sandbox. When it fails, or the client has gone
// meanwhile, nothing is left of the container.
func (s *Server) CreateContainer(client context.Context, req *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	config, sandbox := req.GetConfig(), req.GetSandboxConfig()
	if err := convert.CheckContainer(config, sandbox); err != nil {
		return nil, err
	}
	sandboxID, pod, err := s.sandboxOf(client, req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	log, err := convert.LogPath(sandbox.GetLogDirectory(), config.LogPath)
	if err != nil {
		return nil, err
	}
	// The name is taken before any mount is looked at: a file server that does not answer any
	// more blocks whoever looks, and must not block another thread with each try. A process
	// has 10000 threads at most.
	id := pod
	id.Container, id.Attempt = config.Metadata.Name, config.Metadata.Attempt
	name, _ := id.Name()
	release, err := s.names.take(name)
	if err != nil {
		return nil, err
	}
	defer release()
	images, unhold, err := s.volumes.Mount(client, config.Mounts)
	if err != nil {
		return nil, err
	}
	defer unhold()
	spec, err := s.containerSpec(client, convert.ContainerRequest{
		SandboxID: sandboxID, Pod: pod, Config: config, Sandbox: sandbox, Images: images, LogPath: log, Created: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	if err := s.addCDIDevices(client, spec, config); err != nil {
		return nil, err
	}
	// A client that has gone may have unmounted the sources of its mounts meanwhile. They must
	// not come back as empty directories.
	if err := client.Err(); err != nil {
		return nil, err
	}
	for _, dir := range spec.MissingDirs {
		if err := hostdir.Make(dir); err != nil {
			return nil, grpccode.Refused(codes.FailedPrecondition, "create container %s of %s: make host path: %v", config.Metadata.Name, pod, err)
		}
	}
	ctx, cancel := s.action(client)
	defer cancel()
	made, err := s.containers.Create(ctx, spec)
	if errdefs.IsNotFound(err) {
		return nil, grpccode.Refused(codes.NotFound, "create container %s of %s: %v", config.Metadata.Name, pod, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create container %s of %s: %w", config.Metadata.Name, pod, err)
	}
	if err := client.Err(); err != nil {
		if err := s.containers.Remove(ctx, made); err != nil {
			klog.ErrorS(err, "Could not remove a container that nobody waits for any more", "containerID", made)
		}
		return nil, err
	}
	s.made.containerMade(made, log)
	return &cri.CreateContainerResponse{ContainerId: made}, nil
}

// containerSpec converts a request, within what the daemon and the image allow.
func (s *Server) containerSpec(ctx context.Context, req convert.ContainerRequest) (*docker.ContainerSpec, error) {
	spec, err := s.platform.Container(req)
	if err != nil {
		return nil, err
	}
	if spec.Host.Privileged {
		if err := s.privileges.CheckPrivileged(); err != nil {
			return nil, grpccode.Refused(codes.FailedPrecondition, "config.linux.security_context.privileged: %v", err)
		}
	}
	spec.Host.OomScoreAdj = s.privileges.OOMScore(spec.Host.OomScoreAdj)
	facts, err := s.images.Facts(ctx, req.Config.Image.Image)
	if err != nil {
		return nil, err
	}
	if err := convert.CheckImage(req.Config, facts); err != nil {
		return nil, err
	}
	return spec, nil
}

// sandboxOf finds the sandbox in which a container is to be created. The result is its full
// ID and its identity.
func (s *Server) sandboxOf(ctx context.Context, id string) (string, docker.Identity, error) {
	if pod, ok := s.made.sandbox(id); ok {
		return id, pod, nil
	}
	r, err := s.inspect(ctx, "pod_sandbox_id", id, docker.TypeSandbox)
	if err != nil {
		return "", docker.Identity{}, err
	}
	pod, _ := docker.IdentityOf(r.Name, r.Config.Labels) // inspect has checked it
	if r.State.Running {
		s.made.sandboxMade(r.ID, pod)
	}
	return r.ID, pod, nil
}
