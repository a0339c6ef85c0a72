package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	utilexec "k8s.io/utils/exec"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// noDetachKeys is a sequence that nobody types. By default Docker intercepts ctrl-P ctrl-Q,
// and ctrl-P is how one reaches a shell's history.
const noDetachKeys = "ctrl-^,ctrl-_,ctrl-^,ctrl-_,ctrl-@"

// execution is a command in a container, started by Docker.
type execution struct {
	server      *Server
	id          string
	containerID string
	watched     int // its process ID, once its end is watched for
	types.HijackedResponse
	ended func(error) // tells whoever observes it that its stream has ended; only the first call counts
}

// Close closes the command's stream.
func (e *execution) Close() {
	e.HijackedResponse.Close()
	e.ended(nil)
}

// startExec starts cmd. When it fails, nothing is left running.
func (s *Server) startExec(ctx context.Context, containerID string, opts container.ExecOptions) (*execution, error) {
	created, err := s.docker.ContainerExecCreate(ctx, containerID, opts)
	if err != nil {
		return nil, dockerError(err, "create exec in container %s", containerID)
	}
	_, call := docker.Begin(ctx, s.cfg.Observe, "POST /exec/{id}/start", created.ID)
	var over sync.Once
	e := &execution{server: s, id: created.ID, containerID: containerID, ended: func(err error) { over.Do(func() { call.Ended(err) }) }}
	// Docker's client does not heed ctx while it waits for the answer.
	type answer struct {
		types.HijackedResponse
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		a.err = recovery.Call(func() (err error) {
			a.HijackedResponse, err = s.docker.ContainerExecAttach(ctx, e.id, container.ExecAttachOptions{Tty: opts.Tty})
			return err
		})
		answered <- a
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			if ctx.Err() != nil {
				e.kill()
			}
			err := dockerError(a.err, "start exec in container %s", containerID)
			e.ended(err)
			return nil, err
		}
		e.HijackedResponse = a.HijackedResponse
		return e, nil
	case <-ctx.Done():
		err := dockerError(ctx.Err(), "start exec in container %s", containerID)
		e.ended(err)
		go func() { // ends when Docker has answered
			if a := <-answered; a.err == nil {
				a.Close()
			}
			e.kill()
		}()
		return nil, err
	}
}

// result waits until the command has ended, and returns how it ended. Docker knows shortly
// after the output has ended, unless the command closed its output and goes on, or Docker is
// busy with the ends of others.
func (e *execution) result(ctx context.Context) (container.ExecInspect, error) {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		info, err := e.server.docker.ContainerExecInspect(ctx, e.id)
		if err != nil {
			return info, dockerError(err, "inspect exec in container %s", e.containerID)
		}
		switch {
		case !hasBegun(info): // the output has ended, so that it never will
			return info, status.Errorf(codes.Unavailable, "Docker has not started the command in container %s", e.containerID)
		case !info.Running:
			return info, nil
		}
		if pause > 30*time.Millisecond {
			if exited, stop := e.watchProcess(ctx); stop != nil {
				select {
				case <-exited:
				case <-ctx.Done():
				}
				stop()
			}
		}
		select {
		case <-ctx.Done():
			return info, dockerError(ctx.Err(), "wait for exec in container %s", e.containerID)
		case <-time.After(pause):
		}
	}
}

// copyOutput copies what the command writes until it ends. With a terminal everything goes to
// out.
func copyOutput(from io.Reader, tty bool, out, err io.Writer) error {
	if out == nil {
		out = io.Discard
	}
	if err == nil {
		err = io.Discard
	}
	if tty {
		_, e := io.Copy(out, from)
		return e
	}
	_, e := stdcopy.StdCopy(out, err, from)
	return e
}

// clientLeft is the result of a session that ended with its client. Nobody reads it; since it
// is an exit code, that of a hang-up, it is not logged as an error either.
var clientLeft = utilexec.CodeExitError{Err: errors.New("client left"), Code: 129}

// exec runs a command with a client's streams until the command ends, or ctx does because the
// client is gone. In the latter case stdin ends and a terminal hangs up, but the command is
// not killed: it may be meant to run on without a client. An exit code other than 0 is a
// utilexec.CodeExitError.
func (s *Server) exec(ctx context.Context, containerID string, cmd []string, client stdio) error {
	e, err := s.startExec(ctx, containerID, container.ExecOptions{
		Cmd: cmd, Tty: client.tty, DetachKeys: noDetachKeys,
		AttachStdin: client.in != nil, AttachStdout: client.out != nil || client.tty, AttachStderr: client.err != nil,
	})
	if err != nil {
		return err
	}
	defer e.Close()
	output := make(chan error, 1)
	go func() {
		output <- recovery.Call(func() error { return copyOutput(e.Reader, client.tty, client.out, client.err) })
	}()
	sendInput(&e.HijackedResponse, client.in, client.tty)
	resizing := followSizes(ctx, client.resize, func(ctx context.Context, size container.ResizeOptions) error {
		return s.docker.ContainerExecResize(ctx, e.id, size)
	})
	defer resizing()
	select {
	case err = <-output:
	case <-ctx.Done():
		err = ctx.Err()
	}
	var info container.ExecInspect
	if err == nil {
		info, err = e.result(ctx)
	}
	if err != nil && client.tty {
		e.hangUp()
	}
	switch {
	case ctx.Err() != nil:
		return clientLeft
	case err != nil:
		return fmt.Errorf("exec in container %s: %w", containerID, err)
	}
	if info.ExitCode != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit code %d", info.ExitCode), Code: info.ExitCode}
	}
	return nil
}

// sendInput copies in until it ends, and then closes only the process's stdin. It does not
// close a terminal, whose output would end too. The goroutine ends with the client's stream,
// which is closed after the session.
func sendInput(to *types.HijackedResponse, in io.Reader, tty bool) {
	if in == nil {
		return
	}
	go func() {
		err := recovery.Call(func() error {
			_, err := io.Copy(to.Conn, in)
			return err
		})
		if err != nil {
			klog.V(4).InfoS("Input ended", "err", err)
		}
		if !tty {
			_ = to.CloseWrite()
		}
	}()
}

// followSizes passes on the sizes of the client's terminal until stop is called. There may be any number, so that
// they count as caused by nothing.
func followSizes(ctx context.Context, sizes <-chan remotecommand.TerminalSize, set func(context.Context, container.ResizeOptions) error) (stop func()) {
	if sizes == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(crimeta.CausedBy(ctx, 0))
	go func() {
		for {
			select {
			case size, ok := <-sizes:
				if !ok {
					return
				}
				err := set(ctx, container.ResizeOptions{Width: uint(size.Width), Height: uint(size.Height)})
				if err != nil && !errors.Is(err, context.Canceled) {
					klog.V(4).InfoS("Terminal could not be resized", "err", err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return cancel
}
