package streaming

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
)

// process is one entry of the process table. session is the pid of its session's leader; runc
// makes the first process of an exec such a leader.
type process struct {
	pid, parent, session int
	started              uint64 // clock ticks since boot; tells a reused pid
	zombie               bool
}

// readProcess parses /proc/PID/stat. The name in it may contain anything.
func readProcess(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, b)
}

func parseStat(pid int, stat []byte) (process, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third, the state
	if len(fields) < 20 {
		return process{}, fmt.Errorf("process %d: short stat", pid)
	}
	p := process{pid: pid, zombie: fields[0][0] == 'Z' || fields[0][0] == 'X'}
	var errs [3]error
	p.parent, errs[0] = strconv.Atoi(string(fields[1]))
	p.session, errs[1] = strconv.Atoi(string(fields[3]))
	p.started, errs[2] = strconv.ParseUint(string(fields[19]), 10, 64)
	return p, errors.Join(errs[:]...)
}

func processTable() ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil { // else it has just ended
			all = append(all, p)
		}
	}
	return all, nil
}

// belonging returns the living processes of root's session, and all their descendants,
// whatever session those are in.
func belonging(all []process, root int) []process {
	in, children := map[int]bool{}, map[int][]int{}
	var todo []int
	join := func(pid int) {
		if !in[pid] {
			in[pid] = true
			todo = append(todo, pid)
		}
	}
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p.pid)
		if p.pid == root || p.session == root {
			join(p.pid)
		}
	}
	for len(todo) > 0 {
		last := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, pid := range children[last] {
			join(pid)
		}
	}
	var members []process
	for _, p := range all {
		if in[p.pid] && !p.zombie {
			members = append(members, p)
		}
	}
	return members
}

// openProcess returns a pidfd of a process in the container. It cannot refer to another
// process: if the pid was reused before, that is in another container or started later.
func openProcess(p process, containerID string) (*os.File, error) {
	fd, err := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", p.pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	now, err := readProcess(p.pid)
	if err == nil && p.started != 0 && now.started != p.started {
		err = os.ErrProcessDone
	}
	if err == nil {
		err = InContainer(p.pid, containerID)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// InContainer fails unless the process is in a cgroup of the container. With every cgroup
// driver such a cgroup has the container's ID in its name.
func InContainer(pid int, containerID string) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return err
	}
	if containerID == "" || !strings.Contains(string(b), containerID) {
		return fmt.Errorf("process %d is not of container %s", pid, containerID)
	}
	return nil
}

func signal(p process, containerID string, sig unix.Signal) error {
	f, err := openProcess(p, containerID)
	if err != nil {
		return err
	}
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	if err := conn.Control(func(fd uintptr) { sendErr = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	return sendErr
}

// killTree kills the process, its session and their descendants. It stops them first, until no
// new one appears, so that none can escape by forking.
func killTree(root int, containerID string) error {
	stopped := map[process]bool{}
	for range 50 {
		all, err := processTable()
		if err != nil {
			return err
		}
		grown := false
		for _, p := range belonging(all, root) {
			p := process{pid: p.pid, started: p.started}
			if stopped[p] {
				continue
			}
			if err := signal(p, containerID, unix.SIGSTOP); err != nil {
				klog.V(4).InfoS("Process of a command that timed out is not stopped", "pid", p.pid, "err", err)
				continue
			}
			stopped[p], grown = true, true
		}
		if !grown {
			break
		}
	}
	var errs []error
	for p := range stopped {
		if err := signal(p, containerID, unix.SIGKILL); err != nil && !gone(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func gone(err error) bool {
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

const (
	// findWithin is how long Docker may take to say which process a command is that is to be signalled. It
	// may be busy, and a command that nobody waits for any more would run on.
	findWithin = 2 * time.Minute
	// killWithin is how long a call waits until its command is killed.
	killWithin = 5 * time.Second
)

// kill ends a command whose result nobody waits for. Docker has no call for that.
func (e *execution) kill() {
	e.signalLater(func(pid int) error { return killTree(pid, e.containerID) }, func(err error) {
		klog.ErrorS(err, "Command that timed out could not be killed", "containerID", e.containerID)
	})
}

// hangUp tells the processes of a command's session that its terminal is gone.
func (e *execution) hangUp() {
	e.signalLater(func(pid int) error {
		all, err := processTable()
		for _, p := range all {
			if p.session == pid {
				if err := signal(p, e.containerID, unix.SIGHUP); err != nil && !gone(err) {
					klog.V(4).InfoS("Process was not told that its terminal is gone", "pid", p.pid, "err", err)
				}
			}
		}
		return err
	}, func(err error) {
		klog.V(2).InfoS("Terminal session could not be ended", "containerID", e.containerID, "err", err)
	})
}

// signalLater calls do with the command's process, once Docker has told it. It returns when that is done, but waits
// no longer than killWithin.
func (e *execution) signalLater(do func(pid int) error, failed func(error)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The caller's context has ended.
		ctx, cancel := context.WithTimeout(context.Background(), findWithin)
		defer cancel()
		err := recovery.Call(func() error {
			pid, err := e.pid(ctx)
			if err != nil || pid == 0 {
				return err
			}
			return do(pid)
		})
		if err != nil {
			failed(err)
		}
	}()
	select {
	case <-done:
	case <-time.After(e.server.killWithin):
	}
}

// pid returns the command's process ID on the host, or 0 when the command has ended. It waits
// while Docker is about to start the command.
func (e *execution) pid(ctx context.Context) (int, error) {
	backoff := wait.Backoff{Duration: 5 * time.Millisecond, Factor: 2, Steps: 10, Cap: 200 * time.Millisecond}
	for {
		info, err := e.server.docker.ContainerExecInspect(ctx, e.id)
		switch {
		case errdefs.IsNotFound(err): // the container is gone
			return 0, nil
		case err != nil:
		case !info.Running && hasBegun(info):
			return 0, nil
		case info.Pid != 0:
			return info.Pid, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("find process of exec: %w", errors.Join(ctx.Err(), err))
		case <-time.After(backoff.Step()):
		}
	}
}

// hasBegun reports whether Docker has started the command, or failed to. It accepts a command before
// it starts it, and until then shows it as not running, with neither process ID nor exit code.
func hasBegun(info container.ExecInspect) bool {
	return info.Running || info.Pid != 0 || info.ExitCode != 0
}

// watchProcess returns a channel that closes when the command's process has ended. Docker may not
// know yet that it has. When the process cannot be watched, stop is nil.
func (e *execution) watchProcess(ctx context.Context) (exited <-chan struct{}, stop func()) {
	info, err := e.server.docker.ContainerExecInspect(ctx, e.id)
	if err != nil || !hasBegun(info) {
		return nil, nil
	}
	e.watched = info.Pid
	done := make(chan struct{})
	if !info.Running {
		close(done)
		return done, func() {}
	}
	f, err := openProcess(process{pid: info.Pid}, e.containerID)
	if err != nil && info.Pid != 0 {
		// What has ended and waits for its parent may have no cgroup any more.
		if p, _ := readProcess(info.Pid); gone(err) || p.zombie {
			close(done)
			return done, func() {}
		}
	}
	if err != nil {
		klog.V(4).InfoS("Process of exec cannot be watched", "pid", info.Pid, "err", err)
		return nil, nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, nil
	}
	ended := func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0
	}
	var now bool
	if err := conn.Control(func(fd uintptr) { now = ended(fd) }); err == nil && now {
		close(done) // at once, so that nobody has to wait to know
		return done, func() { f.Close() }
	}
	go func() {
		if err := conn.Read(ended); err == nil { // waits until the kernel says that it is readable
			close(done)
		}
	}()
	return done, func() { f.Close() }
}

// hasLeftProcesses reports whether any process of the command that was watched is there. It does not see one that
// has left the session and lost its parent.
func (e *execution) hasLeftProcesses() bool {
	all, err := processTable()
	return err != nil || len(belonging(all, e.watched)) > 0
}
