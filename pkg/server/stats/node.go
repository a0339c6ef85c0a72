package stats

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
)

// nodeReader reads what the machine as a whole uses.
type nodeReader struct {
	cgroups string // where cgroup file systems are mounted
	root    string // directory on the node's file system

	mu   sync.Mutex
	used uint64 // CPU time at the last look, for the rate
	when time.Time
}

func newNodeReader(cgroups, root string) *nodeReader {
	return &nodeReader{cgroups: cgroups, root: root}
}

func (r *nodeReader) stats(name string, booted, now time.Time, brief bool) stats.NodeStats {
	n := stats.NodeStats{NodeName: name, StartTime: metav1.NewTime(booted), CPU: r.cpu(now), Memory: r.memory(now)}
	if !brief {
		n.Fs = fileSystem(r.root, now)
		n.Rlimit = processes(now)
	}
	return n
}

// cpu returns the CPU time of the root cgroup and, from the second look on, its
// rate.
func (r *nodeReader) cpu(now time.Time) *stats.CPUStats {
	used, ok := r.cpuTime()
	if !ok {
		return nil
	}
	out := &stats.CPUStats{Time: metav1.NewTime(now), UsageCoreNanoSeconds: &used}
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := now.Sub(r.when); !r.when.IsZero() && d >= time.Second && used >= r.used {
		out.UsageNanoCores = ptr.To(uint64(float64(used-r.used) / d.Seconds()))
	}
	if now.Sub(r.when) >= time.Second {
		r.used, r.when = used, now
	}
	return out
}

// cpuTime returns nanoseconds, from cgroup v1 or v2.
func (r *nodeReader) cpuTime() (uint64, bool) {
	if text, err := os.ReadFile(filepath.Join(r.cgroups, "cpuacct", "cpuacct.usage")); err == nil {
		n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
		return n, err == nil
	}
	text, err := os.ReadFile(filepath.Join(r.cgroups, "cpu.stat"))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n * 1000, err == nil
		}
	}
	return 0, false
}

// memory returns the machine's memory use.
func (r *nodeReader) memory(now time.Time) *stats.MemoryStats {
	m, err := machine.ReadMemory()
	if err != nil {
		return nil
	}
	bytes := func(n int64) *uint64 { return ptr.To(uint64(max(n, 0))) }
	return &stats.MemoryStats{
		Time: metav1.NewTime(now), UsageBytes: bytes(m.Total - m.Free), WorkingSetBytes: bytes(m.WorkingSet()),
		AvailableBytes: bytes(m.Available()), RSSBytes: bytes(m.Anonymous),
	}
}

func fileSystem(path string, now time.Time) *stats.FsStats {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) != nil {
		return nil
	}
	size := uint64(fs.Frsize)
	return &stats.FsStats{
		Time: metav1.NewTime(now), AvailableBytes: ptr.To(fs.Bavail * size), CapacityBytes: ptr.To(fs.Blocks * size),
		UsedBytes: ptr.To((fs.Blocks - fs.Bfree) * size), InodesFree: &fs.Ffree, Inodes: &fs.Files, InodesUsed: ptr.To(fs.Files - fs.Ffree),
	}
}

func processes(now time.Time) *stats.RlimitStats {
	running, most, ok := machine.Processes()
	if !ok {
		return nil
	}
	return &stats.RlimitStats{Time: metav1.NewTime(now), MaxPID: &most, NumOfRunningProcesses: &running}
}
