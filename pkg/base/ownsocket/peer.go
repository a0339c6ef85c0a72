package ownsocket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// peer is a process, as far as it matters here.
type peer struct {
	uid uint32
	pid int32
	// admin says that it has CAP_SYS_ADMIN in the agent's user namespace: root of a container that was given
	// nothing more has not. In a user namespace of his own anybody has it, and over nothing else.
	admin bool
}

// admits reports whether another process may do what p, the agent, can. Root in a container
// is root of the machine for the kernel, and may have our directory mounted to read the volumes
// of pods; it must not reach into other pods by that.
func (p peer) admits(other peer) bool {
	if other.uid != 0 {
		return other.uid == p.uid
	}
	return other.admin || !p.admin
}

func self() (peer, error) {
	admin, err := isAdmin(os.Getpid())
	return peer{uid: uint32(os.Geteuid()), pid: int32(os.Getpid()), admin: admin}, err
}

// peerOf asks the kernel who has connected.
func peerOf(c *net.UnixConn) (peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var got *unix.Ucred
	closed := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(closed, err); err != nil {
		return peer{}, fmt.Errorf("ask who has connected: %w", err)
	}
	who := peer{uid: got.Uid, pid: got.Pid}
	if who.uid == 0 {
		// A process that has ended, or that we cannot see, is nobody's.
		who.admin, err = isAdmin(int(who.pid))
	}
	return who, err
}

// isAdmin reads a process's effective capabilities, which are those in its user namespace. That is looked
// at afterwards: nobody returns to the one above.
func isAdmin(pid int) (bool, error) {
	admin, err := hasSysAdmin(pid)
	if err != nil || !admin {
		return false, err
	}
	ours, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return false, err
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	return its == ours, err
}

func hasSysAdmin(pid int) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			mask, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return mask&(1<<unix.CAP_SYS_ADMIN) != 0, err
		}
	}
	return false, fmt.Errorf("/proc/%d/status names no capabilities", pid)
}
