package imageservice

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/pause"
)

// SandboxImage is the name under which Docker has the sandbox image.
func (s *Service) SandboxImage() string { return s.sandbox.String() }

// EnsureSandboxImage loads the built-in sandbox image, or pulls the configured one
// without credentials, unless Docker has it. It is cheap when there is nothing to do
// (one Docker call), but it is cheaper to call it only when Docker says that the image
// is missing. It is safe for concurrent use.
func (s *Service) EnsureSandboxImage(ctx context.Context) error {
	if s.sandbox.builtIn() {
		_, err := s.loadBuiltIn(ctx)
		return err
	}
	found, err := s.find(ctx, s.sandbox)
	if err != nil || found != nil {
		return err
	}
	klog.V(2).InfoS("Pulling the sandbox image", "image", s.sandbox.String())
	_, err = s.pull(ctx, s.sandbox, credentials{})
	return err
}

// builtIn reports whether the built-in sandbox image is meant. It is never pulled: no registry
// has it, and whatever one gave under its name would be somebody else's.
func (t target) builtIn() bool { return t.String() == pause.Ref }

func (s *Service) loadBuiltIn(ctx context.Context) (id string, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if id, err = pause.Ensure(ctx, s.docker); err != nil {
		return "", statusError(err, "provide the sandbox image")
	}
	return id, nil
}
