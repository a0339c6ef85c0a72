// Package program runs programs that are somebody else's: plug-ins and helpers, which may
// hang, leave children behind, or never stop writing.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// killWait is how long output is awaited that a child of an ended program keeps open.
const killWait = time.Second

// Program is what is to be run.
type Program struct {
	Path  string
	Args  []string
	Env   []string // nil: this process's own
	Stdin []byte
	// MaxOutput is how many bytes it may write to standard output, and to standard error.
	MaxOutput int
}

// Run runs the program once and returns what it wrote, also when it fails. It returns at the
// latest killWait after ctx has ended, with the cause: the program is killed then, and with it
// the children that stayed in its process group. Only a program that the kernel cannot end
// is waited for.
func (p Program) Run(ctx context.Context) (stdout, stderr []byte, err error) {
	out, complaint := limited{most: p.MaxOutput}, limited{most: p.MaxOutput}
	cmd := p.command(ctx, &complaint)
	cmd.Stdout = &out
	err = cmd.Run()
	switch cause := context.Cause(ctx); {
	case err == nil:
	case cause != nil:
		err = cause
	case out.full || complaint.full:
		err = fmt.Errorf("more than %d bytes of output", p.MaxOutput) // it has died of that
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it has ended well, and a child of it goes on
	}
	return out.buffer.Bytes(), complaint.buffer.Bytes(), err
}

// Stream is Run for output that may be large: it is passed on as it comes, by the goroutine that calls, which may
// have to wait for out. MaxOutput bounds standard error only. What goes wrong with out ends the program. Output of
// children that stay counts too, until ctx ends.
func (p Program) Stream(ctx context.Context, out io.Writer) (stderr []byte, err error) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	complaint := limited{most: p.MaxOutput}
	cmd := p.command(running, &complaint)
	from, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer context.AfterFunc(running, func() { from.Close() })()
	_, passed := io.Copy(out, from)
	if passed != nil {
		cancel() // nobody reads what it writes
	}
	err = cmd.Wait()
	switch cause := context.Cause(ctx); {
	case cause != nil:
		err = cause
	case passed != nil:
		err = passed
	case complaint.full:
		err = fmt.Errorf("more than %d bytes of complaints", p.MaxOutput)
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil
	}
	return complaint.buffer.Bytes(), err
}

func (p Program) command(ctx context.Context, complaint io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Env = p.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killWait
	cmd.Stdin, cmd.Stderr = bytes.NewReader(p.Stdin), complaint
	return cmd
}

// limited is a buffer that fails when it is full, which ends the writer. It does not embed the
// buffer, whose other methods know no limit.
type limited struct {
	buffer bytes.Buffer
	most   int
	full   bool
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.buffer.Len()+len(p) > l.most {
		l.full = true
		return 0, errors.New("too much output")
	}
	return l.buffer.Write(p)
}
