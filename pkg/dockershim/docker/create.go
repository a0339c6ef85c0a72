package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"k8s.io/klog/v2"
)

// ContainerSpec says how Docker is to create a container.
type ContainerSpec struct {
	Name   string
	Config *container.Config
	Host   *container.HostConfig
	// MissingDirs lists sources of mounts that do not exist. They are made as directories before
	// the container is created.
	MissingDirs []string
}

// conflict says what to do when a name is taken.
type conflict int

const (
	refuse   conflict = iota // it is there already
	replace                  // remove the leftover of a crash
	sidestep                 // add a random suffix
	tryAgain                 // it has gone meanwhile
)

const (
	maxTries  = 4
	suffixLen = 4 // random bytes after a name that is taken
)

// Create creates a container and returns its ID. A taken name is freed when its holder is
// the leftover of a creation that a crash interrupted. When the holder is ours and runs, the
// error is an errdefs.ErrAlreadyExists. In all other cases the new container gets a suffix.
// Create adds a label to those of spec.
func (c *Containers) Create(ctx context.Context, spec *ContainerSpec) (id string, err error) {
	seal(spec.Config.Labels)
	name := spec.Name
	for try := 1; ; try++ {
		r, err := c.engine.ContainerCreate(ctx, spec.Config, spec.Host, nil, nil, name)
		if err == nil {
			for _, w := range r.Warnings {
				klog.V(2).InfoS("Docker warns of a container", "name", name, "warning", w)
			}
			c.belongs(r.ID, spec.Config.Labels[LabelPodUID])
			c.changed(r.ID)
			return r.ID, nil
		}
		if !errdefs.IsConflict(err) || try == maxTries {
			return "", err
		}
		holder, state, err := c.holder(ctx, name)
		if err != nil {
			return "", err
		}
		switch decideConflict(holder != "", state) {
		case refuse:
			return "", failed(errdefs.ErrAlreadyExists, "%s exists and runs as %s", name, state.id)
		case replace:
			klog.InfoS("Removing the leftover of an interrupted creation", "name", name, "containerID", holder)
			// Its start may still be under way; if it has started, the next try sees that.
			if err := c.RemoveUnlessRunning(ctx, holder); err != nil {
				return "", fmt.Errorf("remove the leftover %s: %w", name, err)
			}
		case sidestep:
			suffix := make([]byte, suffixLen)
			if _, err := rand.Read(suffix); err != nil {
				return "", err
			}
			name = spec.Name + "_" + hex.EncodeToString(suffix)
		case tryAgain:
		}
	}
}

// held describes the container that holds a name.
type held struct {
	id    string
	ours  bool
	state State
}

// decideConflict decides what to do about a name that is taken. A container that ran is kept,
// since its exit code and log may still be wanted. A container that is not ours is left alone.
func decideConflict(exists bool, by held) conflict {
	switch {
	case !exists:
		return tryAgain
	case !by.ours:
		return sidestep
	case by.state == StateCreated:
		return replace
	case by.state == StateRunning:
		return refuse
	}
	return sidestep
}

// holder returns the ID and state of the container that has a name; "" when none has it any
// more.
func (c *Containers) holder(ctx context.Context, name string) (string, held, error) {
	r, err := c.engine.ContainerInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return "", held{}, nil
	}
	if err != nil {
		return "", held{}, fmt.Errorf("find out who has the name %s: %w", name, err)
	}
	h := held{id: r.ID, ours: c.takeOver(&r)}
	if r.State != nil {
		h.state = StateOf(r.State)
	}
	return r.ID, h, nil
}
