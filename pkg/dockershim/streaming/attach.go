package streaming

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// maxStall is how long an attached client may read nothing. The container's output waits for
// the client, and must not wait for ever.
const maxStall = 30 * time.Second

// attach connects a client to a container's main process until one of them ends. When the
// container was made without stdin, input is dropped. Whether the end of the input closes the
// container's stdin depends on the container's StdinOnce.
func (s *Server) attach(ctx context.Context, containerID string, client stdio) (err error) {
	info, err := s.docker.ContainerInspect(ctx, containerID)
	if err != nil {
		return dockerError(err, "inspect container %s", containerID)
	}
	if info.State == nil || !info.State.Running {
		return notRunning("container", containerID)
	}
	tty := info.Config.Tty
	if !info.Config.OpenStdin {
		client.in = nil
	}
	_, call := docker.Begin(ctx, s.cfg.Observe, "POST /containers/{id}/attach", containerID)
	h, err := s.docker.ContainerAttach(ctx, containerID, container.AttachOptions{
		Stream: true, DetachKeys: noDetachKeys,
		Stdin: client.in != nil, Stdout: client.out != nil, Stderr: client.err != nil && !tty,
	})
	if err != nil {
		err = dockerError(err, "attach to container %s", containerID)
		call.Ended(err)
		return err
	}
	defer func() { call.Ended(err) }()
	defer h.Close()
	dropWhenStalled(ctx, maxStall)
	output := make(chan error, 1)
	go func() {
		output <- recovery.Call(func() error { return copyOutput(h.Reader, tty, client.out, client.err) })
	}()
	sendInput(&h, client.in, tty)
	if tty {
		resizing := followSizes(ctx, client.resize, func(ctx context.Context, size container.ResizeOptions) error {
			return s.docker.ContainerResize(ctx, containerID, size)
		})
		defer resizing()
	}
	select {
	case err := <-output:
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("copy output of container %s: %w", containerID, err)
		}
		return nil
	case <-ctx.Done(): // the client is gone
		return nil
	}
}
