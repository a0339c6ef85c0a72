package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// program is a daemon with a log. Any later run finds it again as the process that
// was started from its path in its directory: there is no moment at which it runs
// unnoticed.
type program struct {
	dir  string // of the cluster, its working directory; a path without links
	name string
	path string
	args []string
	env  []string // nil: this process's own
}

func (p *program) logPath() string { return filepath.Join(p.dir, "logs", p.name+".log") }

// start starts the program in a session of its own, so that it outlives its
// starter.
func (p *program) start() error {
	if p.pid() != 0 {
		return nil
	}
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() { _ = cmd.Wait() }() // no zombies, even if it is stopped by its process ID
	return nil
}

// pid is the process ID of the program, 0 if it is not running.
func (p *program) pid() int {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range processes {
		cmdline, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		if err != nil || !strings.HasPrefix(string(cmdline), p.path+"\x00") {
			continue
		}
		// The same program may run for another cluster.
		if dir, err := os.Readlink(filepath.Join(proc, "cwd")); err != nil || dir != p.dir {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(proc)); err == nil {
			return pid
		}
	}
	return 0
}

// stop ends the program, by force if it does not end in time.
func (p *program) stop(patience time.Duration) error {
	pid := p.pid()
	if pid == 0 {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	deadline := time.Now().Add(patience)
	for p.pid() != 0 {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			deadline = time.Now().Add(patience)
			if patience == 0 {
				deadline = time.Now().Add(10 * time.Second)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// tail is the end of the program's log.
func (p *program) tail() string {
	text, err := os.ReadFile(p.logPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// run runs a command until it ends, at the latest when this process does; its
// output is part of the error. A nil env is this process's own.
func run(ctx context.Context, dir string, env []string, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, env
	// The signal is sent when the thread that started the command ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// await repeats ask until it returns no error, and returns the last error when time
// is up.
func await(ctx context.Context, patience time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
