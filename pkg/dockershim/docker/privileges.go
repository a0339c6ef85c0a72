package docker

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Privileges are those of the Docker daemon, which may run rootless or nested in a
// container, and cannot give its containers more than it has.
type Privileges struct {
	// LowestOOMScore is the lowest oom_score_adj that a container can get: without
	// CAP_SYS_RESOURCE a daemon cannot go below its own.
	LowestOOMScore int

	missing uint64 // capabilities that the daemon does not have; 0 when unknown
	warn    sync.Once
}

// FindPrivileges asks the kernel about the process at the other end of Docker's socket.
// Where that cannot be known, everything is taken to be allowed.
func FindPrivileges(docker *Engine) *Privileges {
	p := &Privileges{LowestOOMScore: -1000}
	pid, err := peer(docker)
	if err != nil {
		return p
	}
	capabilities, ok := procStatus(pid, "CapEff")
	if !ok {
		return p
	}
	all := uint64(1)<<(lastCapability()+1) - 1
	p.missing = all &^ capabilities
	if p.missing&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		return p
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/oom_score_adj")
	if err != nil {
		return p
	}
	if own, err := strconv.Atoi(string(bytes.TrimSpace(text))); err == nil {
		p.LowestOOMScore = own
	}
	return p
}

// OOMScore returns the oom_score_adj nearest to wanted that a container can get, and logs
// once when that is not what was wanted.
func (p *Privileges) OOMScore(wanted int) int {
	if wanted >= p.LowestOOMScore {
		return wanted
	}
	p.warn.Do(func() {
		klog.Warningf("Docker lacks CAP_SYS_RESOURCE and cannot give containers an oom_score_adj below %d; where less is wanted, as %d now, they get that", p.LowestOOMScore, wanted)
	})
	return p.LowestOOMScore
}

// CheckPrivileged returns an error when a privileged container cannot run here.
func (p *Privileges) CheckPrivileged() error {
	if p.missing == 0 {
		return nil
	}
	return fmt.Errorf("docker lacks capabilities (mask %#x, which a privileged container would get): "+
		"it runs nested or rootless, where privileged containers are impossible", p.missing)
}

// peer returns the process ID of the daemon.
func peer(docker *Engine) (int, error) {
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

// lastCapability is the highest capability that this kernel knows.
func lastCapability() int {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		if n, err := strconv.Atoi(string(bytes.TrimSpace(text))); err == nil && n < 63 {
			return n
		}
	}
	return unix.CAP_LAST_CAP
}
