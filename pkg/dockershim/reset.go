package dockershim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/dockerid"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/network/kubenet"
)

// Reset removes everything that a dockershim with this configuration has made and that still
// exists: containers, networks, also what kubenet has made on this machine, checkpoints, log
// positions, and the built-in sandbox image if the dockershim has loaded it and nobody else uses
// it. It writes to out what it removes. No server may run meanwhile. Reset may be repeated.
func Reset(ctx context.Context, cfg Config, out io.Writer) error {
	s, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.docker.Close()
	defer s.streams.Close()
	items, err := s.containers.List(ctx, "")
	if err != nil {
		return err
	}
	var errs []error
	for _, sandboxes := range []bool{false, true} { // what uses a sandbox goes first
		for _, it := range items {
			if it.IsSandbox != sandboxes {
				continue
			}
			if err := s.resetItem(ctx, it); err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintf(out, "removed container %s\n", it.Identity)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, s.forgetGone(ctx, nil))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the state is still needed
	}
	errs = append(errs, s.resetSandboxImage(ctx, out))
	removed, err := kubenet.Reset(kubenetRecord(s.cfg.StateDir))
	errs = append(errs, err)
	for _, what := range removed {
		fmt.Fprintf(out, "removed %s\n", what)
	}
	s.volumes.Remove(ctx)
	for _, dir := range []string{"sandbox", "logs", "network", "images"} {
		path := filepath.Join(s.cfg.StateDir, dir)
		errs = append(errs, dockerid.RemoveFiles(path))
		for _, aside := range durable.Aside(path) {
			_ = os.Remove(aside)
		}
	}
	_ = os.Remove(s.cfg.StateDir) // others may keep something there
	return errors.Join(errs...)
}

// kubenetRecord is the file of what kubenet has made, below the state directory.
func kubenetRecord(stateDir string) string { return filepath.Join(stateDir, "kubenet.json") }

func (s *Server) resetItem(ctx context.Context, it docker.Item) error {
	var err error
	if it.IsSandbox {
		err = s.removeSandbox(ctx, it.ID)
	} else {
		err = s.removeContainer(ctx, it.ID, s.containers.Remove)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", it.Identity, err)
	}
	return nil
}
