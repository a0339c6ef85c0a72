package dockershim

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/hostdir"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// CreateContainer creates a container in a sandbox. When it fails, or the client
// has gone meanwhile, nothing of it is left.
func (s *Server) CreateContainer(client context.Context, req *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	config, sandbox := req.GetConfig(), req.GetSandboxConfig()
	if err := checkContainer(config, sandbox); err != nil {
		return nil, err
	}
	sandboxID, of, err := s.sandboxOf(client, req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	log, err := logPath(sandbox.GetLogDirectory(), config.LogPath)
	if err != nil {
		return nil, err
	}
	// Before any mount is looked at: a file server that answers no more holds whoever does,
	// and must not hold another thread at each try. A process has 10000 at most.
	id := of
	id.Container, id.Attempt = config.Metadata.Name, config.Metadata.Attempt
	name, _ := id.dockerName()
	release, err := s.names.take(name)
	if err != nil {
		return nil, err
	}
	defer release()
	s.mounted.mu.RLock()
	defer s.mounted.mu.RUnlock()
	images, err := s.imageVolumes(client, config.Mounts)
	if err != nil {
		return nil, err
	}
	c, err := s.platform.container(sandboxID, of, config, sandbox, images, log, time.Now())
	if err != nil {
		return nil, err
	}
	if c.host.Privileged {
		if err := s.oom.privilegeProblem(); err != nil {
			return nil, grpccode.Refused(codes.FailedPrecondition, "config.linux.security_context.privileged: %v", err)
		}
	}
	c.host.OomScoreAdj = s.oom.allow(c.host.OomScoreAdj)
	if err := s.checkImage(client, config); err != nil {
		return nil, err
	}
	// A client that has gone may have unmounted meanwhile what it wanted mounted: it must
	// not come back as an empty directory.
	if err := client.Err(); err != nil {
		return nil, err
	}
	for _, dir := range c.missing {
		if err := hostdir.Make(dir); err != nil {
			return nil, grpccode.Refused(codes.FailedPrecondition, "create container %s of %s: make host path: %v", config.Metadata.Name, of, err)
		}
	}
	ctx, cancel := s.action(client)
	defer cancel()
	made, err := s.create(ctx, c)
	if errdefs.IsNotFound(err) {
		return nil, grpccode.Refused(codes.NotFound, "create container %s of %s: %v", config.Metadata.Name, of, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create container %s of %s: %w", config.Metadata.Name, of, err)
	}
	if err := client.Err(); err != nil {
		if err := s.remove(ctx, made); err != nil {
			klog.ErrorS(err, "Could not remove a container that nobody waits for any more", "containerID", made)
		}
		return nil, err
	}
	s.made.containerMade(made, log)
	return &cri.CreateContainerResponse{ContainerId: made}, nil
}

// sandboxOf finds the sandbox that a container is to be created in.
func (s *Server) sandboxOf(ctx context.Context, id string) (string, identity, error) {
	if of, ok := s.made.sandbox(id); ok {
		return id, of, nil
	}
	r, err := s.inspect(ctx, "pod_sandbox_id", id, typeSandbox)
	if err != nil {
		return "", identity{}, err
	}
	of, _ := identityOf(r.Name, r.Config.Labels) // inspect has checked it
	if r.State.Running {
		s.made.sandboxMade(r.ID, of)
	}
	return r.ID, of, nil
}

// StartContainer starts a created container and has its log followed. For a
// container that runs it does nothing.
func (s *Server) StartContainer(ctx context.Context, req *cri.StartContainerRequest) (*cri.StartContainerResponse, error) {
	id := req.ContainerId
	log, known := s.made.logPath(id)
	if !known {
		r, err := s.inspect(ctx, "container_id", id, typeContainer)
		if err != nil {
			return nil, err
		}
		if st := listedState(string(r.State.Status)); st == stateExited {
			return nil, grpccode.Refused(codes.FailedPrecondition, "container %s has run already and cannot be started again", id)
		}
		id, log = r.ID, r.Config.Labels[labelLogPath]
	}
	action, cancel := s.action(ctx)
	defer cancel()
	err := s.docker.ContainerStart(action, id, container.StartOptions{})
	s.view.changed(id)
	s.made.forget(id)
	if err != nil {
		s.view.startFailed(id)
		if errdefs.IsNotFound(err) {
			return nil, grpccode.NotFound("container", id)
		}
		return nil, fmt.Errorf("start container %s: %w", id, sayShared(err))
	}
	if err := s.followLog(action, id, log); err != nil {
		// It runs, and what it writes is kept by Docker; tidy tries again.
		klog.ErrorS(err, "Could not follow a container's log", "containerID", id, "path", log)
	}
	return &cri.StartContainerResponse{}, nil
}

// followLog has a container's log copied to where its client wants it.
func (s *Server) followLog(ctx context.Context, id, path string) error {
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("create the log's directory: %w", err)
	}
	return s.logs.Follow(ctx, id, containerLogFile(s.docker.info.DockerRootDir, id), path)
}

// StopContainer ends a container: its stop signal, and SIGKILL after the timeout.
// It succeeds when the container is stopped or gone. A second call with a shorter
// timeout shortens the first; one of more than 68 years is 68 years.
func (s *Server) StopContainer(ctx context.Context, req *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	if req.ContainerId == "" {
		return nil, grpccode.Invalid("container_id", "is empty")
	}
	if req.Timeout < 0 {
		return nil, grpccode.Invalid("timeout", "%d is no number of seconds", req.Timeout)
	}
	if _, err := s.inspect(ctx, "container_id", req.ContainerId, typeContainer); grpccode.Of(err) == codes.NotFound && err != nil {
		return &cri.StopContainerResponse{}, nil
	} else if err != nil {
		return nil, err
	}
	if err := s.stop(ctx, req.ContainerId, int(min(req.Timeout, math.MaxInt32))); err != nil {
		return nil, fmt.Errorf("stop container %s: %w", req.ContainerId, err)
	}
	return &cri.StopContainerResponse{}, nil
}

// RemoveContainer removes a container, running or not unless crimeta.UnlessRunning says
// otherwise; its log stays. It succeeds when the container is gone.
func (s *Server) RemoveContainer(ctx context.Context, req *cri.RemoveContainerRequest) (*cri.RemoveContainerResponse, error) {
	r, err := s.inspect(ctx, "container_id", req.ContainerId, typeContainer)
	if err != nil && grpccode.Of(err) == codes.NotFound {
		return &cri.RemoveContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.action(ctx)
	defer cancel()
	remove := s.remove
	if crimeta.IsUnlessRunning(ctx) {
		remove = s.removeUnlessRunning
	}
	if err := remove(ctx, r.ID); err != nil {
		return nil, fmt.Errorf("remove container %s: %w", r.ID, err)
	}
	s.removed(ctx, r.ID)
	return &cri.RemoveContainerResponse{}, nil
}

func (s *Server) removeContainer(ctx context.Context, id string) error {
	if err := s.remove(ctx, id); err != nil {
		return err
	}
	s.removed(ctx, id)
	return nil
}

// removed lets go of what is kept for a container.
func (s *Server) removed(ctx context.Context, id string) {
	s.made.forget(id)
	s.logs.Forget(id)
	s.releaseImages(ctx)
}
