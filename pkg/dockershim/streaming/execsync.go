package streaming

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
)

const (
	// maxOutput bounds stdout and stderr together, so that the answer fits into the 16 MiB
	// which CRI clients accept as a message.
	maxOutput = 16<<20 - 4<<10
	// watchAfter is when to look for a command's process, to notice its end even if a child
	// holds the output open. Most commands have ended by then.
	watchAfter = 200 * time.Millisecond
	// drainFor is how long output may still come after the command has ended.
	drainFor = 300 * time.Millisecond
)

// ExecSync runs a command and returns its output and exit code. After req.Timeout
// seconds (0: never), or when ctx ends, it kills the command with its descendants and
// fails with DeadlineExceeded or Canceled. Output beyond 16 MiB is dropped. For a command that
// cannot be started it answers as a shell would: with 127 if the command does not exist, else
// with 126, and the reason on stderr.
func (s *Server) ExecSync(ctx context.Context, req *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	switch {
	case req.GetContainerId() == "":
		return nil, invalid("container_id is required")
	case len(req.GetCmd()) == 0:
		return nil, invalid("cmd is required")
	case req.GetTimeout() < 0:
		return nil, invalid("timeout %d is negative", req.GetTimeout())
	}
	cancel := func() {}
	if seconds := min(req.GetTimeout(), int64(24*time.Hour/time.Second)*365); seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	}
	defer cancel()
	e, err := s.startExec(ctx, req.ContainerId, container.ExecOptions{Cmd: req.Cmd, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return nil, err
	}
	out, err := e.collect(ctx)
	if err != nil {
		e.kill()
		return nil, endedEarly(ctx, req, err)
	}
	info, err := e.result(ctx)
	if err != nil {
		e.kill()
		return nil, endedEarly(ctx, req, err)
	}
	if info.Pid == 0 && info.ExitCode != 0 {
		return notStarted(info.ExitCode, out.stdout.Bytes(), out.stderr.Bytes()), nil
	}
	return &cri.ExecSyncResponse{Stdout: out.stdout.Bytes(), Stderr: out.stderr.Bytes(), ExitCode: int32(info.ExitCode)}, nil
}

func endedEarly(ctx context.Context, req *cri.ExecSyncRequest, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return status.Errorf(codes.DeadlineExceeded, "command in container %s timed out after %d s and was killed", req.ContainerId, req.Timeout)
	case ctx.Err() != nil:
		return status.Errorf(codes.Canceled, "command in container %s was killed: the caller left", req.ContainerId)
	}
	return err
}

// notStarted is the answer for a command that never ran. Docker gives the reason in place of
// the command's output, and has one code for all reasons.
func notStarted(code int, stdout, stderr []byte) *cri.ExecSyncResponse {
	why := bytes.TrimSpace(append(bytes.Clone(stderr), stdout...))
	if text := string(why); strings.Contains(text, "executable file not found") || strings.Contains(text, "no such file or directory") {
		code = 127
	}
	return &cri.ExecSyncResponse{Stderr: append(why, '\n'), ExitCode: int32(code)}
}

// output keeps the first maxOutput bytes of both streams.
type output struct {
	stdout, stderr bytes.Buffer
	left           int
}

// part is one of the two streams. StdCopy writes them one at a time.
type part struct {
	*output
	to *bytes.Buffer
}

func (p part) Write(b []byte) (int, error) {
	keep := min(len(b), p.left)
	p.left -= keep
	p.to.Write(b[:keep])
	return len(b), nil
}

// collect reads the command's output to its end, and closes the connection. The output ends
// when nobody holds it open any more, or shortly after the command itself has ended.
func (e *execution) collect(ctx context.Context) (*output, error) {
	out := &output{left: maxOutput}
	ended := make(chan error, 1)
	go func() {
		ended <- recovery.Call(func() error { return copyOutput(e.Reader, false, part{out, &out.stdout}, part{out, &out.stderr}) })
	}()
	// Reading ends as soon as the connection is closed; after that, out may be used.
	abort := func() {
		e.Close()
		<-ended
	}
	watch := time.NewTimer(watchAfter)
	defer watch.Stop()
	var exited <-chan struct{}
	for {
		select {
		case err := <-ended:
			e.Close()
			if err != nil {
				return nil, status.Errorf(codes.Internal, "read output of exec in container %s: %v", e.containerID, err)
			}
			return out, nil
		case <-ctx.Done():
			abort()
			return nil, ctx.Err()
		case <-watch.C:
			if exited == nil {
				var stop func()
				if exited, stop = e.watchProcess(ctx); stop == nil {
					exited = nil
					continue // Docker ends the output itself, in 2 s
				}
				defer stop()
				continue
			}
			abort()
			return out, nil
		case <-exited:
			exited = make(chan struct{})
			watch.Reset(drainFor)
		}
	}
}
