package streaming

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
)

const (
	// maxOutput bounds stdout and stderr together, so that the answer fits into the 16 MiB
	// which CRI clients accept as a message.
	maxOutput = 16<<20 - 4<<10
	// smallOutput is what every command may have of that at once, in bytes. More is for
	// maxLarge commands at a time, until they have ended: an answer is in memory several times
	// on its way, and commands of one container can be many. The others wait for leaveWithin, and
	// then have no more: who has leave may never end.
	smallOutput = 256 << 10
	maxLarge    = 2
	leaveWithin = 10 * time.Second
	// watchAfter is when to look for a command's process, to notice its end even if a child
	// holds the output open. Most commands have ended by then.
	watchAfter = 200 * time.Millisecond
	// After the command has ended, its last output may still be on the way, through three pipes
	// and Docker. It ends by itself unless a child holds it open. Then all of it has come when nothing
	// came for drainFor, and once more after Docker has answered something: it may have stood still
	// meanwhile. A child that goes on writing gets drainMost, after which Docker itself ends the output.
	drainFor  = 200 * time.Millisecond
	drainMost = 2 * time.Second
	// reportWithin is how long Docker may take to say how a command has ended. It handles the
	// ends in one container one after the other, and each for 2 s when a child holds the output
	// open.
	reportWithin = 30 * time.Second
)

// ExecSync runs a command and returns its output and exit code. After req.Timeout
// seconds (0: never), or when ctx ends, it kills the command with its descendants and
// fails with DeadlineExceeded or Canceled. A command that has ended in time is never late, however
// late Docker tells its exit code; if Docker does not tell it at all, that is Unavailable. Output
// beyond 16 MiB, or what crimeta.OutputLimit says, is dropped, and beyond 256 KiB when too many
// commands have that much. For a command that cannot be started it answers as a shell would: with 127 if the
// command does not exist, else with 126, and the reason on stderr.
func (s *Server) ExecSync(ctx context.Context, req *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	switch {
	case req.GetContainerId() == "":
		return nil, invalid("container_id is required")
	case len(req.GetCmd()) == 0:
		return nil, invalid("cmd is required")
	case req.GetTimeout() < 0:
		return nil, invalid("timeout %d is negative", req.GetTimeout())
	}
	run, cancel := ctx, func() {}
	if seconds := min(req.GetTimeout(), int64(24*time.Hour/time.Second)*365); seconds > 0 {
		run, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	}
	defer cancel()
	e, err := s.startExec(run, req.ContainerId, container.ExecOptions{Cmd: req.Cmd, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return nil, err
	}
	out := &output{left: crimeta.OutputLimitOf(ctx, maxOutput), small: smallOutput, more: func() (bool, error) { return s.leave(run) }}
	defer func() {
		if out.large {
			s.large.Release(1)
		}
	}()
	exited, err := e.collect(ctx, run, out)
	if err != nil {
		e.kill()
		return nil, endedEarly(run, req, err)
	}
	info, err := e.outcome(ctx, run, req, exited)
	if err != nil {
		return nil, err
	}
	if info.Pid == 0 && info.ExitCode != 0 {
		return notStarted(info.ExitCode, out.stdout.Bytes(), out.stderr.Bytes()), nil
	}
	return &cri.ExecSyncResponse{Stdout: out.stdout.Bytes(), Stderr: out.stderr.Bytes(), ExitCode: int32(info.ExitCode)}, nil
}

// leave waits for leave to keep much output, and reports whether it was given. The error is that
// run has ended.
func (s *Server) leave(run context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(run, s.leaveWithin)
	defer cancel()
	if err := s.large.Acquire(ctx, 1); err != nil {
		return false, run.Err()
	}
	return true, nil
}

// outcome returns how the command has ended. If it has not ended in time, it is killed.
func (e *execution) outcome(caller, run context.Context, req *cri.ExecSyncRequest, exited bool) (info container.ExecInspect, err error) {
	if !exited {
		if info, err = e.result(run); err == nil {
			return info, nil
		}
		if exited = caller.Err() == nil && run.Err() != nil && e.hasEnded(caller); !exited {
			err = endedEarly(run, req, err) // killing takes time
			e.kill()
			return info, err
		}
	}
	// What runs of it now is what it has left behind, which is not killed.
	late, cancel := context.WithTimeout(caller, e.server.reportWithin)
	defer cancel()
	if info, err = e.result(late); err != nil && late.Err() != nil && caller.Err() == nil {
		return info, status.Errorf(codes.Unavailable, "command in container %s has ended, but Docker has not said how in %v", e.containerID, e.server.reportWithin)
	}
	return info, err
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

// output keeps the first bytes of both streams.
type output struct {
	stdout, stderr bytes.Buffer
	left           int                  // bytes that are still kept
	small          int                  // of these, what needs no leave
	more           func() (bool, error) // waits for leave to keep the others
	large          bool                 // leave was given
	seen           atomic.Int64         // bytes that have come
	waiting        atomic.Bool          // for leave
}

// part is one of the two streams. StdCopy writes them one at a time.
type part struct {
	*output
	to *bytes.Buffer
}

func (p part) Write(b []byte) (int, error) {
	p.seen.Add(int64(len(b)))
	keep := min(len(b), p.left)
	if keep > p.small && !p.large {
		p.waiting.Store(true)
		given, err := p.more()
		p.waiting.Store(false)
		if err != nil {
			return 0, err
		}
		if p.large = given; !given {
			p.left = p.small
			keep = p.left
		}
	}
	p.left -= keep
	p.small -= min(keep, p.small)
	p.to.Write(b[:keep])
	return len(b), nil
}

// collect reads the command's output to its end, and closes the connection. The output ends
// when nobody holds it open any more, or shortly after the command itself has ended, which exited
// then tells. run ends with the command's time, and caller with whoever waits for it; a command
// that has ended before is not late.
func (e *execution) collect(caller, run context.Context, out *output) (exited bool, err error) {
	ended := make(chan error, 1)
	go func() {
		ended <- recovery.Call(func() error { return copyOutput(e.Reader, false, part{out, &out.stdout}, part{out, &out.stderr}) })
	}()
	// Reading ends as soon as the connection is closed; after that, out may be used. Nothing waits
	// for leave to keep more by then.
	abort := func() {
		e.Close()
		<-ended
	}
	watch := time.NewTimer(watchAfter)
	defer watch.Stop()
	var process <-chan struct{} // closed at the process's end; nil: not watched
	var quiet drain
	asked, over := false, run.Done()
	for {
		select {
		case err := <-ended:
			e.Close()
			if err == nil {
				return exited, nil
			}
			if run.Err() == nil {
				return false, status.Errorf(codes.Internal, "read output of exec in container %s: %v", e.containerID, err)
			}
			if caller.Err() == nil && (exited || closed(process) || e.hasEnded(caller)) {
				return true, nil
			}
			return false, run.Err()
		case <-over:
			abort()
			if caller.Err() == nil && (exited || closed(process) || e.hasEnded(caller)) {
				return true, nil
			}
			return false, run.Err()
		case <-watch.C:
			if process == nil {
				var stop func()
				if process, stop = e.watchProcess(run); stop == nil {
					process = nil
					watch.Reset(time.Second) // Docker ends the output itself, in 2 s
					continue
				}
				defer stop()
				continue
			}
			if quiet.over(out.seen.Load(), out.waiting.Load(), time.Now()) {
				if asked {
					abort()
					return true, nil
				}
				asked = true
				if !e.hasLeftProcesses() { // nobody holds the output open: it ends as soon as all of it is here
					watch.Reset(e.server.reportWithin)
					continue
				}
				asking, cancel := context.WithTimeout(caller, e.server.reportWithin)
				_, _ = e.server.docker.ContainerExecInspect(asking, e.id) // whatever the answer is
				cancel()
				quiet = drain{seen: out.seen.Load(), until: time.Now().Add(drainMost)}
			}
			watch.Reset(drainFor)
		case <-process:
			exited, process, over = true, make(chan struct{}), caller.Done()
			quiet = drain{seen: out.seen.Load(), until: time.Now().Add(drainMost)}
			watch.Reset(drainFor)
		}
	}
}

// drain says when the output of a command that has ended is complete.
type drain struct {
	seen  int64 // bytes when last asked
	until time.Time
}

// over is asked every drainFor with the number of bytes that have come. While the reader waits
// for leave, none can come, and the time for them has not begun.
func (d *drain) over(seen int64, waiting bool, now time.Time) bool {
	if waiting {
		*d = drain{seen: -1, until: now.Add(drainMost)}
		return false
	}
	quiet := seen == d.seen
	d.seen = seen
	return quiet || now.After(d.until)
}

// hasEnded reports whether the command's process has ended, when it is too late to watch it.
func (e *execution) hasEnded(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	process, stop := e.watchProcess(ctx)
	if stop == nil {
		return false
	}
	defer stop()
	return closed(process)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
