package convert

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/versions"
	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/cdi"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// Platform is what a conversion must know of Docker and of the machine. It does not change
// while the program runs, and its methods are safe for concurrent use.
type Platform struct {
	StateDir          string
	APIVersion        string
	Systemd           bool // cgroup driver
	AppArmor          bool
	SELinux           bool
	RecursiveReadOnly bool // mounts can be read-only recursively
	Runtimes          []string
	// RealPath resolves a mount's source, which must exist.
	RealPath func(string) (string, error)
	// ReadFile reads a seccomp profile.
	ReadFile func(string) ([]byte, error)
}

// NewPlatform describes a Docker daemon to the conversions. stateDir is the dockershim's, by
// which it finds its containers.
func NewPlatform(e *docker.Engine, stateDir string) Platform {
	p := Platform{
		StateDir: stateDir, APIVersion: e.ClientVersion(),
		Systemd:  e.About.CgroupDriver == "systemd",
		RealPath: filepath.EvalSymlinks, ReadFile: os.ReadFile,
	}
	for _, o := range e.About.SecurityOptions {
		name, _, _ := strings.Cut(strings.TrimPrefix(o, "name="), ",")
		switch name {
		case "apparmor":
			p.AppArmor = true
		case "selinux":
			p.SELinux = true
		}
	}
	for name := range e.About.Runtimes {
		p.Runtimes = append(p.Runtimes, name)
	}
	p.RecursiveReadOnly = p.api("1.44") && kernelAtLeast(5, 12)
	return p
}

// CDI returns what package cdi must know.
func (p Platform) CDI() cdi.Platform {
	return cdi.Platform{Node: cdi.HostNode, RealPath: p.RealPath, ReadOnlyNonRecursive: p.api("1.44"), RecursiveReadOnly: p.RecursiveReadOnly}
}

// api reports whether Docker speaks at least that version of its API.
func (p Platform) api(version string) bool { return !versions.LessThan(p.APIVersion, version) }

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	parts := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(strings.TrimRight(parts[1], "-+abcdefghijklmnopqrstuvwxyz"))
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}
