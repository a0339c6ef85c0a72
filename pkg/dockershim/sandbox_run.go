package dockershim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// RunPodSandbox creates and starts a sandbox and attaches it to its network. When
// it fails, or the client has gone meanwhile, nothing of it is left.
func (s *Server) RunPodSandbox(client context.Context, req *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	config := req.GetConfig()
	if err := convert.CheckSandbox(config); err != nil {
		return nil, err
	}
	if err := s.checkHandler(req.RuntimeHandler); err != nil {
		return nil, err
	}
	image := s.imageService.SandboxImage()
	c, err := s.platform.Sandbox(config, req.RuntimeHandler, image, s.network.EngineMode(), time.Now())
	if err != nil {
		return nil, err
	}
	c.Host.OomScoreAdj = s.privileges.OOMScore(c.Host.OomScoreAdj)
	release, err := s.names.take(c.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := s.action(client)
	defer cancel()
	of := convert.SandboxIdentity(config.Metadata)
	id, err := s.containers.Create(ctx, c)
	if errdefs.IsNotFound(err) { // the image was not there yet, or was removed
		if err = s.ensureSandboxImage(client); err == nil {
			id, err = s.containers.Create(ctx, c)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create sandbox of %s: %w", of, err)
	}
	err = s.bringUp(ctx, id, config)
	if err == nil {
		err = client.Err()
	}
	if err != nil {
		s.undo(id)
		return nil, fmt.Errorf("start sandbox of %s: %w", of, err)
	}
	s.made.sandboxMade(id, of)
	return &cri.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// ensureSandboxImage provides the sandbox image that Docker does not have, and notes for
// Reset that it is ours.
func (s *Server) ensureSandboxImage(ctx context.Context) error {
	if err := s.noteSandboxImage(); err != nil {
		return fmt.Errorf("note the loading of the sandbox image: %w", err)
	}
	return s.imageService.EnsureSandboxImage(ctx)
}

// noteSandboxImage is called by many at once on a node that has no image yet.
func (s *Server) noteSandboxImage() error {
	s.noting.Lock()
	defer s.noting.Unlock()
	if _, err := os.Lstat(s.sandboxImageFile()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return durable.Write(s.sandboxImageFile(), nil)
}

// sandboxImageFile is there once the dockershim has loaded the sandbox image.
func (s *Server) sandboxImageFile() string { return filepath.Join(s.cfg.StateDir, "sandbox-image") }

// checkHandler knows Docker's default runtime, under two names, and those of its
// configuration.
func (s *Server) checkHandler(handler string) error {
	if name := convert.OCIRuntime(handler); name != "" && !slices.Contains(s.platform.Runtimes, name) {
		return grpccode.Refused(codes.InvalidArgument, "runtime_handler: Docker has no runtime %q", name)
	}
	return nil
}

// bringUp takes a created sandbox to where it is ready. The checkpoint is written
// while Docker works: without it only a network would be torn down later.
func (s *Server) bringUp(ctx context.Context, id string, config *cri.PodSandboxConfig) error {
	written := make(chan error, 1)
	go func() {
		written <- recovery.Call(func() error { return s.checkpoints.Write(id, convert.Checkpoint(config)) })
	}()
	err := s.containers.Start(ctx, id)
	if err = errors.Join(err, <-written); err != nil {
		return err
	}
	if convert.OnHost(config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork()) || !s.attaches() {
		return nil
	}
	netns, err := s.netns(ctx, id)
	if err != nil {
		return err
	}
	sandbox, err := convert.NetworkSandbox(id, config)
	if err != nil {
		return err
	}
	if _, err := s.network.SetUp(ctx, sandbox, netns); err != nil {
		return fmt.Errorf("attach to the network: %w", err)
	}
	return nil
}

// attaches tells whether sandboxes are attached by the plug-in, not by Docker.
func (s *Server) attaches() bool { return s.network.EngineMode() == modeNone }

// modeNone is the Docker network mode of a sandbox that a plug-in attaches.
const modeNone = "none"

// netns is the path of a running sandbox's network namespace; "" when it does not run.
func (s *Server) netns(ctx context.Context, id string) (string, error) {
	r, err := s.containers.Inspect(ctx, id)
	if err != nil {
		return "", err
	}
	if r.State == nil || !r.State.Running || r.State.Pid == 0 {
		return "", nil
	}
	return "/proc/" + strconv.Itoa(r.State.Pid) + "/ns/net", nil
}

// undo removes a sandbox that did not come up. A network that cannot be given back
// now, for what kept it from being set up, is tried again by tidy.
func (s *Server) undo(id string) {
	ctx, cancel := s.action(context.Background())
	defer cancel()
	detached := s.detach(ctx, id)
	if err := s.containers.Remove(ctx, id); err != nil {
		klog.ErrorS(err, "Could not remove a sandbox that did not start, it stays until it is removed", "podSandboxID", id)
		return
	}
	s.made.forget(id)
	if detached == nil {
		detached = s.checkpoints.Remove(id)
	}
	if detached != nil {
		klog.ErrorS(detached, "Could not clean up after a sandbox that did not start, trying again", "podSandboxID", id, "after", tidyPeriod)
	}
}

// removeSandbox stops, detaches, removes and forgets a sandbox, in that order: what
// is left when it fails is still found, and the next try goes on from there.
func (s *Server) removeSandbox(ctx context.Context, id string) error {
	if err := s.detach(ctx, id); err != nil {
		return err
	}
	if err := s.containers.Remove(ctx, id); err != nil {
		return err
	}
	s.made.forget(id)
	return s.checkpoints.Remove(id)
}

// detach takes a sandbox off its network. One that was never attached, or by
// Docker, is no error.
func (s *Server) detach(ctx context.Context, id string) error {
	netns, err := s.netns(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err := s.network.TearDown(ctx, id, netns); err != nil {
		return fmt.Errorf("detach from the network: %w", err)
	}
	return nil
}
