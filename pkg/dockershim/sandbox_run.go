package dockershim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/streaming"
)

// RunPodSandbox creates and starts a sandbox and attaches it to its network. When it fails, or
// the client has gone meanwhile, nothing is left of the sandbox.
func (s *Server) RunPodSandbox(client context.Context, req *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	config := req.GetConfig()
	if err := convert.CheckSandbox(config); err != nil {
		return nil, err
	}
	if err := s.checkHandler(req.RuntimeHandler); err != nil {
		return nil, err
	}
	image := s.imageService.SandboxImage()
	spec, err := s.platform.Sandbox(config, req.RuntimeHandler, image, s.network.EngineMode(), time.Now())
	if err != nil {
		return nil, err
	}
	spec.Host.OomScoreAdj = s.privileges.OOMScore(spec.Host.OomScoreAdj)
	release, err := s.names.take(spec.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := s.action(client)
	defer cancel()
	pod := convert.SandboxIdentity(config.Metadata)
	id, err := s.containers.Create(ctx, spec)
	if errdefs.IsNotFound(err) { // the image was not there yet, or was removed
		if err = s.ensureSandboxImage(client); err == nil {
			id, err = s.containers.Create(ctx, spec)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create sandbox of %s: %w", pod, err)
	}
	err = s.bringUp(ctx, id, config)
	if err == nil {
		err = client.Err()
	}
	if err != nil {
		s.undo(id)
		return nil, fmt.Errorf("start sandbox of %s: %w", pod, err)
	}
	s.made.sandboxMade(id, pod)
	return &cri.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// checkHandler refuses a runtime handler that is neither Docker's default, which has two
// names, nor a runtime of Docker's configuration.
func (s *Server) checkHandler(handler string) error {
	if name := convert.OCIRuntime(handler); name != "" && !slices.Contains(s.platform.Runtimes, name) {
		return grpccode.Refused(codes.InvalidArgument, "runtime_handler: Docker has no runtime %q", name)
	}
	return nil
}

// bringUp makes a created sandbox ready. The checkpoint comes first: on a full disk nothing starts, or
// the end of what did would have the client try again at once. It gets to the disk while Docker
// starts the sandbox: it serves only to tear down the network later.
func (s *Server) bringUp(ctx context.Context, id string, config *cri.PodSandboxConfig) error {
	if err := s.checkpoints.Write(id); err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() { written <- recovery.Call(s.checkpoints.Sync) }()
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

// attaches reports whether the plug-in attaches sandboxes, rather than Docker.
func (s *Server) attaches() bool { return s.network.EngineMode() == modeNone }

// modeNone is the Docker network mode of a sandbox that a plug-in attaches.
const modeNone = "none"

// netns returns the path of a sandbox's network namespace; "" when the sandbox does not run.
func (s *Server) netns(ctx context.Context, id string) (string, error) {
	r, err := s.containers.Inspect(ctx, id)
	if err != nil {
		return "", err
	}
	if r.State == nil || !r.State.Running || r.State.Pid == 0 {
		return "", nil
	}
	// Docker may not know yet that the process has ended, and another may have its number.
	if err := streaming.InContainer(r.State.Pid, r.ID); err != nil {
		klog.V(2).InfoS("Process of a sandbox is gone", "podSandboxID", id, "err", err)
		return "", nil
	}
	return "/proc/" + strconv.Itoa(r.State.Pid) + "/ns/net", nil
}

// undo removes a sandbox that did not come up. When its network cannot be given back now,
// perhaps for the same reason for which it could not be set up, tidy tries again.
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

// removeSandbox detaches, removes and forgets a sandbox, in this order: whatever is left after
// a failure can still be found, and the next try goes on from there.
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

// detach takes a sandbox off its network. It succeeds for a sandbox that was never attached,
// or was attached by Docker.
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
