package harness

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/vishvananda/netlink"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/netdump"
)

// Audit counts what an agent and its Docker hold at one moment, to compare it with
// another moment at which as many pods ran: anything that has grown is a leak.
type Audit struct {
	Containers int // of this node, dead ones included
	Mounts     int // below the agent's directory
	PodDirs    int // of pods below the root directory
	LogDirs    int // of pods below the log directory
	Netns      int // of the private daemon
	Veths      int // on the private daemon's bridge
	Goroutines int // of the agent
	FDs        int // of the agent
	RSS        int // of the agent, KiB
}

func errTooFew(got, want int) error { return fmt.Errorf("%d so far, want %d", got, want) }

// Audit counts for a running agent.
func (a *Agent) Audit() (Audit, error) {
	var c Audit
	own, err := a.Containers()
	if err != nil {
		return c, err
	}
	c.Containers = len(own)
	mounts, err := MountsBelow(a.Dir)
	if err != nil {
		return c, err
	}
	c.Mounts = len(mounts)
	c.PodDirs = entries(filepath.Join(a.Dir, "root", "pods"))
	c.LogDirs = entries(filepath.Join(a.Dir, "logs"))
	c.Netns = a.Docker.netns()
	c.Veths = a.Docker.veths()
	c.FDs = entries(fmt.Sprintf("/proc/%d/fd", a.PID()))
	if c.Goroutines, err = a.metric("go_goroutines"); err != nil {
		return c, err
	}
	c.RSS, err = RSS(a.PID())
	return c, err
}

// Leaks returns what has grown from before to after by more than the slack that
// idle connections and the Go runtime need.
func (before Audit) Leaks(after Audit) error {
	var grown []string
	check := func(what string, b, a, slack int) {
		if a > b+slack {
			grown = append(grown, fmt.Sprintf("%s %d -> %d", what, b, a))
		}
	}
	check("containers", before.Containers, after.Containers, 0)
	check("mounts", before.Mounts, after.Mounts, 0)
	check("pod directories", before.PodDirs, after.PodDirs, 0)
	check("log directories", before.LogDirs, after.LogDirs, 0)
	check("network namespaces", before.Netns, after.Netns, 0)
	check("veth pairs", before.Veths, after.Veths, 0)
	check("goroutines", before.Goroutines, after.Goroutines, 25)
	check("file descriptors", before.FDs, after.FDs, 15)
	if len(grown) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(grown, ", "))
	}
	return nil
}

// Audit counts for a dockershim, which must have its Docker to itself.
func (r *Runtime) Audit() (Audit, error) {
	all, err := r.Docker.Client.ContainerList(context.Background(), container.ListOptions{All: true})
	if err != nil {
		return Audit{}, err
	}
	mounts, err := MountsBelow(r.Dir)
	if err != nil {
		return Audit{}, err
	}
	return Audit{
		Containers: len(all), Mounts: len(mounts), Netns: r.Docker.netns(), Veths: r.Docker.veths(),
		FDs: entries(fmt.Sprintf("/proc/%d/fd", r.PID())),
	}, nil
}

// metric reads a plain number from /metrics.
func (a *Agent) metric(name string) (int, error) {
	body, err := a.Get("/metrics")
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(body), "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			return int(f), err
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// netns counts the network namespaces that the daemon holds open.
func (d *Dockerd) netns() int { return entries(filepath.Join(d.dir, "exec", "netns")) }

// veths counts the links on the daemon's bridge.
func (d *Dockerd) veths() int {
	bridge, err := netlink.LinkByName("mkt" + d.name)
	if err != nil {
		return -1
	}
	links, err := netdump.Whole(netlink.LinkList)
	if err != nil {
		return -1
	}
	n := 0
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			n++
		}
	}
	return n
}

// RSS is the resident memory of a process in KiB.
func RSS(pid int) (int, error) { return kilobytes(pid, "VmRSS:") }

// PeakRSS is the highest RSS so far.
func PeakRSS(pid int) (int, error) { return kilobytes(pid, "VmHWM:") }

func kilobytes(pid int, field string) (int, error) {
	for _, line := range readLines(fmt.Sprintf("/proc/%d/status", pid)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, field)
}

func entries(dir string) int {
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	return len(list)
}

// Files lists the regular files below dir, relative to it.
func Files(dir string) []string {
	var files []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, rel)
		}
		return nil
	})
	return files
}

// ReadText reads a file, following links.
func ReadText(path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}
