package usage

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

// cpu is the CPU time of the root cgroup and, from the second look on, its rate.
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

// cpuTime in nanoseconds, from cgroup v1 or v2.
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

// memory of the machine: the working set is what is not free, less inactive file
// pages.
func (r *nodeReader) memory(now time.Time) *stats.MemoryStats {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil
	}
	kib := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		name, rest, ok := strings.Cut(line, ":")
		if fields := strings.Fields(rest); ok && len(fields) > 0 {
			kib[name], _ = strconv.ParseUint(fields[0], 10, 64)
		}
	}
	total, free, inactive := kib["MemTotal"]<<10, kib["MemFree"]<<10, kib["Inactive(file)"]<<10
	if total == 0 || free > total {
		return nil
	}
	used := total - free
	working := used - min(inactive, used)
	return &stats.MemoryStats{
		Time: metav1.NewTime(now), UsageBytes: &used, WorkingSetBytes: &working, AvailableBytes: ptr.To(total - working),
		RSSBytes: ptr.To(kib["AnonPages"] << 10),
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
	limit, err := os.ReadFile("/proc/sys/kernel/pid_max")
	load, loadErr := os.ReadFile("/proc/loadavg") // "0.00 0.01 0.05 1/123 4567"
	if err != nil || loadErr != nil {
		return nil
	}
	most, err := strconv.ParseInt(string(bytes.TrimSpace(limit)), 10, 64)
	fields := strings.Fields(string(load))
	if err != nil || len(fields) < 4 {
		return nil
	}
	_, all, _ := strings.Cut(fields[3], "/")
	running, err := strconv.ParseInt(all, 10, 64)
	if err != nil {
		return nil
	}
	return &stats.RlimitStats{Time: metav1.NewTime(now), MaxPID: &most, NumOfRunningProcesses: &running}
}
