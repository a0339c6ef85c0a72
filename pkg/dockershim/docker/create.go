package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

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

// conflict is what to do when a name is taken.
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

// Create creates a container, and seals its labels. A taken name is freed when its holder
// is the leftover of a creation that a crash interrupted; a name that runs is an
// errdefs.ErrAlreadyExists; for all others the new container gets a suffix.
func (v *Containers) Create(ctx context.Context, c *ContainerSpec) (id string, err error) {
	seal(c.Config.Labels)
	name := c.Name
	for try := 1; ; try++ {
		r, err := v.docker.ContainerCreate(ctx, c.Config, c.Host, nil, nil, name)
		if err == nil {
			for _, w := range r.Warnings {
				klog.V(2).InfoS("Docker warns of a container", "name", name, "warning", w)
			}
			v.belongs(r.ID, c.Config.Labels[LabelPodUID])
			v.changed(r.ID)
			return r.ID, nil
		}
		if !errdefs.IsConflict(err) || try == maxTries {
			return "", err
		}
		holder, state, err := v.holder(ctx, name)
		if err != nil {
			return "", err
		}
		switch decideConflict(holder != "", state) {
		case refuse:
			return "", failed(errdefs.ErrAlreadyExists, "%s exists and runs as %s", name, state.id)
		case replace:
			klog.InfoS("Removing the leftover of an interrupted creation", "name", name, "containerID", holder)
			// Its start may still be on its way; what has started is looked at again.
			if err := v.RemoveUnlessRunning(ctx, holder); err != nil {
				return "", fmt.Errorf("remove the leftover %s: %w", name, err)
			}
		case sidestep:
			suffix := make([]byte, suffixLen)
			if _, err := rand.Read(suffix); err != nil {
				return "", err
			}
			name = c.Name + "_" + hex.EncodeToString(suffix)
		case tryAgain:
		}
	}
}

// held is the state of the container that holds a name.
type held struct {
	id    string
	ours  bool
	state State
}

// decideConflict says what to do about a name that is taken. What ran is kept:
// its exit code and log may still be wanted. What is not ours is left alone.
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

// holder finds out who has a name; "" when nobody has any more.
func (v *Containers) holder(ctx context.Context, name string) (string, held, error) {
	r, err := v.docker.ContainerInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return "", held{}, nil
	}
	if err != nil {
		return "", held{}, fmt.Errorf("find out who has the name %s: %w", name, err)
	}
	h := held{id: r.ID, ours: v.takeOver(&r)}
	if r.State != nil {
		h.state = StateOf(r.State)
	}
	return r.ID, h, nil
}

// Remove removes a container, running or not, with its anonymous volumes. It succeeds
// when the container is gone, and waits for a removal that is under way.
func (v *Containers) Remove(ctx context.Context, id string) error {
	return v.removeBy(ctx, id, true)
}

// RemoveUnlessRunning is remove, but leaves a running container alone and returns
// errdefs.ErrConflict for it. When a start is on its way, Docker decides which comes first.
func (v *Containers) RemoveUnlessRunning(ctx context.Context, id string) error {
	return v.removeBy(ctx, id, false)
}

func (v *Containers) removeBy(ctx context.Context, id string, force bool) error {
	err := v.docker.ContainerRemove(ctx, id, container.RemoveOptions{Force: force, RemoveVolumes: true})
	v.changed(id)
	if err != nil && errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		gone, failed := v.docker.ContainerWait(ctx, id, container.WaitConditionRemoved)
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

// Start starts a container. An error is remembered: Docker lists a container that could
// not be started as created.
func (v *Containers) Start(ctx context.Context, id string) error {
	err := v.docker.ContainerStart(ctx, id, container.StartOptions{})
	if err != nil {
		v.StartFailed(id)
		return err
	}
	v.changed(id)
	return nil
}

// Stop sends a container its stop signal, and SIGKILL after grace seconds. It succeeds
// when the container is stopped or gone.
func (v *Containers) Stop(ctx context.Context, id string, grace int) error {
	err := v.docker.ContainerStop(ctx, id, container.StopOptions{Timeout: &grace})
	v.changed(id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Update changes the limits of a container.
func (v *Containers) Update(ctx context.Context, id string, limits container.Resources) error {
	_, err := v.docker.ContainerUpdate(ctx, id, container.UpdateConfig{Resources: limits})
	v.changed(id)
	return err
}

// failure is an error of ours of a kind that package errdefs knows, in our words.
type failure struct {
	kind    error
	message string
}

func (f failure) Error() string { return f.message }
func (f failure) Unwrap() error { return f.kind }

func failed(kind error, format string, args ...any) error {
	return failure{kind, fmt.Sprintf(format, args...)}
}
