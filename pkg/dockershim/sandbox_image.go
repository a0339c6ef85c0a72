package dockershim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/pause"
)

// ensureSandboxImage gives Docker the sandbox image, and notes for Reset that we did so.
func (s *Server) ensureSandboxImage(ctx context.Context) error {
	if err := s.noteSandboxImage(); err != nil {
		return fmt.Errorf("note the loading of the sandbox image: %w", err)
	}
	return s.imageService.EnsureSandboxImage(ctx)
}

// noteSandboxImage may be called concurrently, as on a node that does not have the image yet.
func (s *Server) noteSandboxImage() error {
	s.noting.Lock()
	defer s.noting.Unlock()
	if _, err := os.Lstat(s.sandboxImageFile()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return durable.Write(s.sandboxImageFile(), nil)
}

// sandboxImageFile is a file that exists once the dockershim has loaded the sandbox image.
func (s *Server) sandboxImageFile() string { return filepath.Join(s.cfg.StateDir, "sandbox-image") }

// resetSandboxImage removes the built-in sandbox image if this dockershim has loaded it and no
// container uses it.
func (s *Server) resetSandboxImage(ctx context.Context, out io.Writer) error {
	file := s.sandboxImageFile()
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if s.imageService.SandboxImage() == pause.Ref {
		_, err := s.docker.ImageRemove(ctx, pause.Ref, image.RemoveOptions{})
		switch {
		case err == nil:
			fmt.Fprintf(out, "removed image %s\n", pause.Ref)
		case !errdefs.IsNotFound(err) && !errdefs.IsConflict(err):
			return fmt.Errorf("remove image %s: %w", pause.Ref, err)
		}
	}
	return os.Remove(file)
}
