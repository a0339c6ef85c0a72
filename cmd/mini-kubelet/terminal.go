package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
	"k8s.io/client-go/tools/remotecommand"
	clientexec "k8s.io/client-go/util/exec"
)

// streams are the command's own, on which nothing is made harmless: what a program in a container
// reads and writes is passed on as it is.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// exitCode is the code that the command ends with, and what is said about it; "" for nothing.
type exitCode struct {
	code int
	text string
}

func (e exitCode) Error() string { return e.text }

// interrupted is how commands end that run until somebody ends them.
var interrupted = exitCode{code: 128 + int(syscall.SIGINT)}

// attached is a terminal, or a pipe, that is connected to a process in a container.
type attached struct {
	streams
	stdin bool
	tty   bool // the process has a terminal
	raw   bool // it is this one
	quiet bool
}

// stream connects the streams until the process ends. It returns an exitCode if that was not 0.
// The terminal is as before when it returns, also by a signal.
func (a *attached) stream(ctx context.Context, e remotecommand.Executor) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	o := remotecommand.StreamOptions{Stdout: a.out, Stderr: a.err, Tty: a.tty}
	if a.stdin {
		o.Stdin = a.in
	}
	if a.tty {
		o.Stderr = nil // a terminal has one output
	}
	if a.raw {
		fd := int(a.in.(*os.File).Fd())
		before, err := term.MakeRaw(fd)
		if err != nil {
			return fmt.Errorf("prepare the terminal: %w", err)
		}
		defer func() { _ = term.Restore(fd, before) }()
		sizes := newSizes(ctx, a.out)
		defer sizes.stop()
		o.TerminalSizeQueue = sizes
	}
	err := untilInterrupted(ctx, func() error { return e.StreamWithContext(ctx, o) })
	var ended clientexec.CodeExitError
	switch {
	case errors.As(err, &ended):
		e := exitCode{code: ended.Code, text: fmt.Sprintf("command terminated with exit code %d", ended.Code)}
		if a.quiet {
			e.text = ""
		}
		return e
	case ctx.Err() != nil:
		return interrupted
	}
	return err
}

// isCanceled tells the end of a command by a signal from the end of its patience.
func isCanceled(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// untilInterrupted calls do and does not wait for its end once ctx has ended: client-go does not heed ctx while it
// waits for a server to begin a stream. The program ends then, and with it what do holds.
func untilInterrupted(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return interrupted
	}
}

// sizes tells the size of a terminal, at first and whenever it changes.
type sizes struct {
	ctx     context.Context
	fd      int
	changed chan os.Signal
}

// newSizes follows the terminal that out is; if it is none, there are no sizes.
func newSizes(ctx context.Context, out io.Writer) *sizes {
	s := &sizes{ctx: ctx, fd: -1, changed: make(chan os.Signal, 1)}
	if f, ok := out.(*os.File); ok {
		s.fd = int(f.Fd())
	}
	s.changed <- syscall.SIGWINCH
	signal.Notify(s.changed, syscall.SIGWINCH)
	return s
}

func (s *sizes) stop() { signal.Stop(s.changed) }

// Next implements remotecommand.TerminalSizeQueue.
func (s *sizes) Next() *remotecommand.TerminalSize {
	select {
	case <-s.changed:
	case <-s.ctx.Done():
		return nil
	}
	width, height, err := term.GetSize(s.fd)
	if err != nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: uint16(width), Height: uint16(height)}
}
