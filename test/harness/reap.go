package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Reap undoes what was done to the machine from below dir, a run directory or one in it:
// it ends every process that was started there (agents, Docker daemons, their shims and
// the containers' own processes), unmounts what is mounted there, removes their cgroups
// and bridges, and then dir itself. It needs no help from others: it works however those
// that should have cleaned up have died. It uses what was recorded before each step, and
// names that only this run gives.
func Reap(dir string) error {
	run := runOf(dir)
	if run == "" {
		return fmt.Errorf("%s is not below a run directory", dir)
	}
	if err := giveBack(dir); err != nil {
		return fmt.Errorf("undo what was done to the machine: %w", err)
	}
	ids := containerIDs(dir)
	var bridges []string
	for _, path := range below(dir, "bridge") {
		bridges = append(bridges, withPrefix(readLines(path), "mkt"+filepath.Base(run))...)
	}
	var cgroups []string
	for _, path := range below(dir, cgroupFile) {
		cgroups = append(cgroups, withPrefix(readLines(path), "/n"+filepath.Base(run))...)
	}
	var sockets []string
	deadline := time.Now().Add(Patience)
	for {
		pids := processesOf(dir, ids)
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not die", pids)
		}
		for _, pid := range pids {
			sockets = append(sockets, shimSockets(pid)...)
			_ = unix.Kill(pid, unix.SIGKILL) // already gone is just as good
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, s := range sockets {
		_ = os.Remove(s)
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	removeCgroups(ids)
	for _, root := range cgroups {
		removeCgroupTree(root)
	}
	for _, name := range bridges {
		removeForwardRules(name)
		if l, err := netlink.LinkByName(name); err == nil {
			_ = netlink.LinkDel(l)
		}
	}
	return removeTree(dir, deadline)
}

// removeTree removes a directory that a process which is being killed may still write to.
func removeTree(dir string, deadline time.Time) error {
	for {
		err := os.RemoveAll(dir)
		if !errors.Is(err, unix.ENOTEMPTY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// removeForwardRules removes what kubenet has put into iptables for a bridge.
func removeForwardRules(bridge string) {
	for _, program := range []string{"iptables", "ip6tables"} {
		rules, err := exec.Command(program, "-w", "-S", "FORWARD").Output()
		if err != nil {
			continue // not here: then there are none
		}
		for line := range strings.Lines(string(rules)) {
			if !strings.Contains(line, " -i "+bridge+" ") && !strings.Contains(line, " -o "+bridge+" ") {
				continue
			}
			way := "-i"
			if strings.Contains(line, " -o ") {
				way = "-o"
			}
			words := map[string]string{"-i": "kubenet: from pods", "-o": "kubenet: to pods"}
			_ = exec.Command(program, "-w", "-D", "FORWARD", way, bridge, "-m", "comment", "--comment", words[way], "-j", "ACCEPT").Run()
		}
	}
}

// runOf is the run directory that dir is or is in.
func runOf(dir string) string {
	rest, ok := strings.CutPrefix(dir, base+"/")
	id, _, _ := strings.Cut(rest, "/")
	if !ok || !runName.MatchString(id) {
		return ""
	}
	return filepath.Join(base, id)
}

func withPrefix(names []string, prefix string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

// below finds a file in a daemon's directory, or in all of those in a run
// directory.
func below(dir string, elem ...string) []string {
	pattern := filepath.Join(elem...)
	own, _ := filepath.Glob(filepath.Join(dir, pattern))
	nested, _ := filepath.Glob(filepath.Join(dir, "*", pattern))
	return append(own, nested...)
}

// containerIDs are the containers of all Docker and containerd daemons below dir.
func containerIDs(dir string) []string {
	var ids []string
	paths := append(below(dir, "data", "containers", "*"), below(dir, "state", "io.containerd.runtime.v2.task", "k8s.io", "*")...)
	for _, p := range paths {
		if id := filepath.Base(p); len(id) == 64 {
			ids = append(ids, id)
		}
	}
	return ids
}

// processesOf finds the living processes of dir's run whose command line contains a path
// below dir, and those in the cgroup of one of the containers. Never this process.
func processesOf(dir string, containers []string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if len(cmdline) == 0 {
			continue // a kernel thread or a zombie
		}
		if bytes.Contains(cmdline, []byte(dir+"/")) && startedBy(pid, runOf(dir)) || inCgroupOf(pid, containers) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// startedBy reports whether the run has started the process, by its environment: somebody
// else may be looking at a log with a command line that contains the path.
func startedBy(pid int, run string) bool {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return slices.Contains(strings.Split(string(env), "\x00"), runVariable+"="+run)
}

func inCgroupOf(pid int, containers []string) bool {
	if len(containers) == 0 {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for _, field := range strings.FieldsFunc(string(b), func(r rune) bool { return r == '/' || r == '\n' || r == '-' || r == '.' }) {
		if len(field) == 64 && slices.Contains(containers, field) {
			return true
		}
	}
	return false
}

// shimSockets are the socket files that a containerd shim listens on. They are in a
// directory shared by all containerds of the machine, and a killed shim leaves them
// behind.
func shimSockets(pid int) []string {
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if !bytes.Contains(cmdline, []byte("containerd-shim")) {
		return nil
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	inodes := map[string]bool{}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:[") {
			inodes[strings.Trim(target, "socket:[]")] = true
		}
	}
	var paths []string
	for _, line := range readLines("/proc/net/unix") {
		f := strings.Fields(line)
		if len(f) == 8 && inodes[f[6]] && strings.HasPrefix(f[7], "/run/containerd/s/") {
			paths = append(paths, f[7])
		}
	}
	return paths
}

// unmountBelow detaches every mount at or below dir, deepest first.
func unmountBelow(dir string) error {
	mounts, err := MountsBelow(dir)
	if err != nil {
		return err
	}
	slices.SortFunc(mounts, func(a, b string) int { return len(b) - len(a) })
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	return nil
}

// MountsBelow lists the mount points at or below dir.
func MountsBelow(dir string) ([]string, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	var points []string
	for _, i := range infos {
		points = append(points, i.Mountpoint)
	}
	return points, nil
}

// cgroupFile, in an agent's directory, contains the cgroup that only this agent
// uses.
const cgroupFile = "cgroup-root"

// removeCgroupTree removes a cgroup and those below it, in every hierarchy, and ends
// what runs there: a runtime that outlives the agent may have containers in it.
func removeCgroupTree(root string) {
	if strings.Trim(root, "/.") == "" {
		return // everything is below that
	}
	tops, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", "*", root))
	tops = append(tops, filepath.Join("/sys/fs/cgroup", root))
	// The kernel keeps a cgroup until the last process in it has been reaped.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := false
		for _, top := range tops {
			var found []string
			_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					found = append(found, path)
				}
				return nil
			})
			for _, path := range slices.Backward(found) {
				for _, line := range readLines(filepath.Join(path, "cgroup.procs")) {
					if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
						_ = unix.Kill(pid, unix.SIGKILL)
					}
				}
				left = unix.Rmdir(path) == unix.EBUSY || left
			}
		}
		if !left || time.Now().After(end) {
			return
		}
	}
}

// removeCgroups removes the cgroups named after the containers, in every hierarchy.
func removeCgroups(ids []string) {
	if len(ids) == 0 {
		return
	}
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // a cgroup that went away meanwhile
		}
		name := strings.TrimSuffix(strings.TrimPrefix(d.Name(), "docker-"), ".scope")
		if slices.Contains(ids, name) {
			found = append(found, path)
		}
		return nil
	})
	for _, path := range slices.Backward(found) {
		_ = unix.Rmdir(path)
	}
}

func readLines(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var lines []string
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if s.Text() != "" {
			lines = append(lines, s.Text())
		}
	}
	return lines
}
