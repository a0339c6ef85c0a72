package dockershim

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/versions"
	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// platform is what a conversion must know of engine and machine. It does not
// change while the program runs.
type platform struct {
	stateDir   string
	apiVersion string
	systemd    bool // cgroup driver
	appArmor   bool
	seLinux    bool
	recursive  bool // recursive read-only mounts
	runtimes   []string
	// realPath resolves a mount's source, which must exist.
	realPath func(string) (string, error)
	// readFile reads a seccomp profile.
	readFile func(string) ([]byte, error)
}

func newPlatform(e *docker.Engine, stateDir string) platform {
	p := platform{
		stateDir: stateDir, apiVersion: e.ClientVersion(),
		systemd:  e.About.CgroupDriver == "systemd",
		realPath: filepath.EvalSymlinks, readFile: os.ReadFile,
	}
	for _, o := range e.About.SecurityOptions {
		name, _, _ := strings.Cut(strings.TrimPrefix(o, "name="), ",")
		switch name {
		case "apparmor":
			p.appArmor = true
		case "selinux":
			p.seLinux = true
		}
	}
	for name := range e.About.Runtimes {
		p.runtimes = append(p.runtimes, name)
	}
	p.recursive = p.api("1.44") && kernelAtLeast(5, 12)
	return p
}

// api tells whether Docker speaks at least that version.
func (p platform) api(version string) bool { return !versions.LessThan(p.apiVersion, version) }

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
