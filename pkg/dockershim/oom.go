package dockershim

import (
	"bytes"
	"context"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// oomFloor is the lowest oom_score_adj that Docker can give to a container: a
// daemon without CAP_SYS_RESOURCE, rootless or nested, cannot go below its own.
type oomFloor struct {
	lowest int
	warn   *sync.Once
	// missing are capabilities that the daemon does not have; 0 when unknown.
	missing uint64
}

// findOOMFloor asks the kernel about the process at the other end of Docker's
// socket. Where that cannot be known, everything is taken to be allowed.
func findOOMFloor(docker *engine) oomFloor {
	f := oomFloor{lowest: -1000, warn: &sync.Once{}}
	pid, err := peer(docker)
	if err != nil {
		return f
	}
	capabilities, ok := procStatus(pid, "CapEff")
	if !ok {
		return f
	}
	all := uint64(1)<<(lastCapability()+1) - 1
	f.missing = all &^ capabilities
	if f.missing&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		return f
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/oom_score_adj")
	if err != nil {
		return f
	}
	if own, err := strconv.Atoi(string(bytes.TrimSpace(text))); err == nil {
		f.lowest = own
	}
	return f
}

// allow returns what of a wish can be had, and says once when it is not all.
func (f oomFloor) allow(wanted int) int {
	if wanted >= f.lowest {
		return wanted
	}
	f.warn.Do(func() {
		klog.Warningf("Docker lacks CAP_SYS_RESOURCE and cannot give containers an oom_score_adj below %d; where less is wanted, as %d now, they get that", f.lowest, wanted)
	})
	return f.lowest
}

// peer is the process id of the daemon.
func peer(docker *engine) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	conn, err := docker.Dialer()(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, unix.ENOTSOCK
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var who *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { who, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return int(who.Pid), nil
}

// procStatus reads a hexadecimal field of /proc/<pid>/status.
func procStatus(pid int, field string) (uint64, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && string(name) == field {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// lastCapability is the highest that this kernel knows.
func lastCapability() int {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		if n, err := strconv.Atoi(string(bytes.TrimSpace(text))); err == nil && n < 63 {
			return n
		}
	}
	return unix.CAP_LAST_CAP
}
