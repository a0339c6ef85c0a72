package docker

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// Remove removes a container, running or not, with its anonymous volumes. It succeeds
// when the container is gone, and waits for a removal that is under way.
func (c *Containers) Remove(ctx context.Context, id string) error {
	return c.removeBy(ctx, id, true)
}

// RemoveUnlessRunning is like Remove, but leaves a running container alone and returns
// errdefs.ErrConflict for it. When a start is on its way, Docker decides which comes first.
func (c *Containers) RemoveUnlessRunning(ctx context.Context, id string) error {
	return c.removeBy(ctx, id, false)
}

func (c *Containers) removeBy(ctx context.Context, id string, force bool) error {
	err := c.engine.ContainerRemove(ctx, id, container.RemoveOptions{Force: force, RemoveVolumes: true})
	c.changed(id)
	if err != nil && errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		gone, failed := c.engine.ContainerWait(ctx, id, container.WaitConditionRemoved)
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

// Start starts a container. A failure is remembered, because Docker goes on listing such a
// container as created.
func (c *Containers) Start(ctx context.Context, id string) error {
	err := c.engine.ContainerStart(ctx, id, container.StartOptions{})
	if err != nil {
		c.StartFailed(id)
		return err
	}
	c.changed(id)
	return nil
}

// Stop sends a container its stop signal, and SIGKILL after grace seconds. It succeeds
// when the container is stopped or gone.
func (c *Containers) Stop(ctx context.Context, id string, grace int) error {
	err := c.engine.ContainerStop(ctx, id, container.StopOptions{Timeout: &grace})
	c.changed(id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Update changes the limits of a container.
func (c *Containers) Update(ctx context.Context, id string, limits container.Resources) error {
	_, err := c.engine.ContainerUpdate(ctx, id, container.UpdateConfig{Resources: limits})
	c.changed(id)
	return err
}

// failure is an error in our own words, of one of the kinds of package errdefs.
type failure struct {
	kind    error
	message string
}

func (f failure) Error() string { return f.message }
func (f failure) Unwrap() error { return f.kind }

func failed(kind error, format string, args ...any) error {
	return failure{kind, fmt.Sprintf(format, args...)}
}
