package stats

import (
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
)

// nodeReader reads what the machine as a whole uses, and what its own parts use.
type nodeReader struct {
	name    string
	booted  time.Time
	system  map[string]string // cgroups by name
	cgroups *cgroupstats.Reader

	mu    sync.Mutex
	rates map[string]sample // by cgroup
}

// sample is the CPU time of a cgroup at the last look, and the rate that it made.
type sample struct {
	used uint64
	when time.Time
	rate *uint64
}

func newNodeReader(cfg Config) (*nodeReader, error) {
	r, err := cgroupstats.New()
	if err != nil {
		return nil, err
	}
	return &nodeReader{name: cfg.Node, booted: cfg.Booted, system: cfg.System, cgroups: r, rates: map[string]sample{}}, nil
}

// stats returns all but what is about file systems.
func (r *nodeReader) stats(now time.Time, brief bool) stats.NodeStats {
	n := stats.NodeStats{NodeName: r.name, StartTime: metav1.NewTime(r.booted)}
	n.Memory, n.Swap = memoryOfMachine(now)
	if root, err := r.cgroups.Full("/"); err == nil {
		n.CPU = r.cpu("/", root.CPU, now)
	}
	for _, name := range slices.Sorted(maps.Keys(r.system)) {
		if c, ok := r.part(name, now); ok {
			n.SystemContainers = append(n.SystemContainers, c)
		}
	}
	if brief {
		return n
	}
	if n.CPU != nil {
		n.CPU.PSI = stalls(cgroupstats.ReadStall("/proc/pressure/cpu"))
	}
	if n.Memory != nil {
		n.Memory.PSI = stalls(cgroupstats.ReadStall("/proc/pressure/memory"))
	}
	if p := stalls(cgroupstats.ReadStall("/proc/pressure/io")); p != nil {
		n.IO = &stats.IOStats{Time: metav1.NewTime(now), PSI: p}
	}
	n.Network = networkOfMachine(now)
	n.Rlimit = processes(now)
	return n
}

// part returns what one of the node's own parts uses; ok is false if its cgroup is gone.
func (r *nodeReader) part(name string, now time.Time) (stats.ContainerStats, bool) {
	f, err := r.cgroups.Full(r.system[name])
	if err != nil {
		return stats.ContainerStats{}, false
	}
	c := stats.ContainerStats{Name: name, StartTime: metav1.NewTime(r.cgroups.Born(r.system[name])), CPU: r.cpu(r.system[name], f.CPU, now)}
	c.CPU.PSI = stalls(f.Pressure.CPU)
	if f.HasMemory {
		c.Memory = &stats.MemoryStats{
			Time: metav1.NewTime(now), UsageBytes: &f.Memory, WorkingSetBytes: &f.WorkingSet, RSSBytes: &f.RSS,
			PageFaults: &f.PageFaults, MajorPageFaults: &f.MajorFaults, PSI: stalls(f.Pressure.Memory),
		}
		if f.MemoryLimit > 0 {
			c.Memory.AvailableBytes = ptr.To(f.MemoryLimit - min(f.MemoryLimit, f.WorkingSet))
		}
		c.Swap = &stats.SwapStats{Time: metav1.NewTime(now), SwapUsageBytes: &f.Swap}
	}
	return c, true
}

// cpu returns a cgroup's CPU time and, from the second look on, its rate.
func (r *nodeReader) cpu(cgroup string, used uint64, now time.Time) *stats.CPUStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.rates[cgroup]
	if d := now.Sub(last.when); d >= time.Second {
		next := sample{used: used, when: now}
		if !last.when.IsZero() && used >= last.used {
			next.rate = ptr.To(uint64(float64(used-last.used) / d.Seconds()))
		}
		r.rates[cgroup], last = next, next
	}
	return &stats.CPUStats{Time: metav1.NewTime(now), UsageCoreNanoSeconds: &used, UsageNanoCores: last.rate}
}

// memoryOfMachine returns the machine's use of memory, nil if it cannot be read, and of swap.
func memoryOfMachine(now time.Time) (*stats.MemoryStats, *stats.SwapStats) {
	m, err := machine.ReadMemory()
	bytes := func(n int64) *uint64 { return ptr.To(uint64(max(n, 0))) }
	swap := &stats.SwapStats{Time: metav1.NewTime(now), SwapAvailableBytes: bytes(m.SwapFree), SwapUsageBytes: bytes(m.Swap - m.SwapFree)}
	if err != nil {
		return nil, swap
	}
	return &stats.MemoryStats{
		Time: metav1.NewTime(now), UsageBytes: bytes(m.Used()), WorkingSetBytes: bytes(m.WorkingSet()),
		AvailableBytes: bytes(m.Available()), RSSBytes: bytes(m.Anonymous),
	}, swap
}

// networkOfMachine returns the traffic of the machine's interfaces, with that of its default
// route as the main one.
func networkOfMachine(now time.Time) *stats.NetworkStats {
	all, err := cgroupstats.Network(os.Getpid())
	if err != nil || len(all) == 0 {
		return nil
	}
	out := &stats.NetworkStats{Time: metav1.NewTime(now)}
	main := machine.DefaultInterface()
	for _, i := range all {
		one := stats.InterfaceStats{Name: i.Name, RxBytes: &i.RxBytes, RxErrors: &i.RxErrors, TxBytes: &i.TxBytes, TxErrors: &i.TxErrors}
		out.Interfaces = append(out.Interfaces, one)
		if i.Name == main {
			out.InterfaceStats = one
		}
	}
	return out
}

func stalls(s *cgroupstats.Stall) *stats.PSIStats {
	if s == nil {
		return nil
	}
	of := func(w cgroupstats.Waited) stats.PSIData {
		return stats.PSIData{Total: w.Total * uint64(time.Microsecond), Avg10: w.Avg10, Avg60: w.Avg60, Avg300: w.Avg300}
	}
	return &stats.PSIStats{Full: of(s.Full), Some: of(s.Some)}
}

// fileSystem returns how full the file system of a path is, nil if it cannot be asked.
func fileSystem(path string, now time.Time) *stats.FsStats {
	var fs unix.Statfs_t
	if path == "" || unix.Statfs(path, &fs) != nil {
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
