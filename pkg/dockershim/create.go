package dockershim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc/codes"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// dockerContainer is a container as Docker is to create it.
type dockerContainer struct {
	name   string
	config *container.Config
	host   *container.HostConfig
	// missing are the sources of mounts that have to be made before it, as directories.
	missing []string
}

// conflict is what to do when a name is taken.
type conflict int

const (
	refuse    conflict = iota // it is there already
	replace                   // remove the leftover of a crash
	sidestep                  // add a random suffix
	tryAgain                  // it has gone meanwhile
	maxTries  = 4
	suffixLen = 4
)

// create has Docker create a container, whose labels are sealed. A name that is taken is freed when what
// holds it is the leftover of a creation that a crash has interrupted.
func (s *Server) create(ctx context.Context, c *dockerContainer) (id string, err error) {
	seal(c.config.Labels)
	name := c.name
	for try := 1; ; try++ {
		r, err := s.docker.ContainerCreate(ctx, c.config, c.host, nil, nil, name)
		if err == nil {
			for _, w := range r.Warnings {
				klog.V(2).InfoS("Docker warns of a container", "name", name, "warning", w)
			}
			s.view.belongs(r.ID, c.config.Labels[labelPodUID])
			s.view.changed(r.ID)
			return r.ID, nil
		}
		if !errdefs.IsConflict(err) || try == maxTries {
			return "", err
		}
		holder, state, err := s.holder(ctx, name)
		if err != nil {
			return "", err
		}
		switch decideConflict(holder != "", state) {
		case refuse:
			return "", grpccode.Refused(codes.AlreadyExists, "%s exists and runs as %s", name, state.id)
		case replace:
			klog.InfoS("Removing the leftover of an interrupted creation", "name", name, "containerID", holder)
			// Its start may still be on its way; what has started is looked at again.
			if err := s.removeUnlessRunning(ctx, holder); err != nil {
				return "", fmt.Errorf("remove the leftover %s: %w", name, err)
			}
		case sidestep:
			suffix := make([]byte, suffixLen)
			if _, err := rand.Read(suffix); err != nil {
				return "", err
			}
			name = c.name + "_" + hex.EncodeToString(suffix)
		case tryAgain:
		}
	}
}

// held is the state of the container that holds a name.
type held struct {
	id    string
	ours  bool
	state state
}

// decideConflict says what to do about a name that is taken. What ran is kept:
// its exit code and log may still be wanted. What is not ours is left alone.
func decideConflict(exists bool, by held) conflict {
	switch {
	case !exists:
		return tryAgain
	case !by.ours:
		return sidestep
	case by.state == stateCreated:
		return replace
	case by.state == stateRunning:
		return refuse
	}
	return sidestep
}

// holder finds out who has a name; "" when nobody has any more.
func (s *Server) holder(ctx context.Context, name string) (string, held, error) {
	r, err := s.docker.ContainerInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return "", held{}, nil
	}
	if err != nil {
		return "", held{}, fmt.Errorf("find out who has the name %s: %w", name, err)
	}
	h := held{id: r.ID, ours: s.view.takeOver(&r)}
	if r.State != nil {
		h.state = listedState(string(r.State.Status))
	}
	return r.ID, h, nil
}

// remove removes a container, running or not, with its anonymous volumes. It
// succeeds when it is gone, and waits for a removal that is on its way.
func (s *Server) remove(ctx context.Context, id string) error {
	return s.removeBy(ctx, id, true)
}

// removeUnlessRunning is remove, but refuses a container that runs. Docker decides
// between this and a start, whichever of them it takes up first.
func (s *Server) removeUnlessRunning(ctx context.Context, id string) error {
	err := s.removeBy(ctx, id, false)
	if errdefs.IsConflict(err) {
		return grpccode.Refused(codes.FailedPrecondition, "%v", err)
	}
	return err
}

func (s *Server) removeBy(ctx context.Context, id string, force bool) error {
	err := s.docker.ContainerRemove(ctx, id, container.RemoveOptions{Force: force, RemoveVolumes: true})
	s.view.changed(id)
	if err != nil && errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		gone, failed := s.docker.ContainerWait(ctx, id, container.WaitConditionRemoved)
		select {
		case <-gone:
			err = nil
		case err = <-failed:
		}
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
