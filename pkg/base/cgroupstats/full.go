package cgroupstats

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Full is all that the files of a cgroup tell. What the kernel does not keep is zero.
type Full struct {
	Usage
	At time.Time // when it was read

	User, System uint64 // CPU time, ns
	Shares       uint64 // CPU shares; on version 2 those that the weight stands for
	Quota        uint64 // microseconds in each Period; 0: no quota
	Period       uint64 // microseconds
	Throttling   Throttling

	HasMemory    bool   // false for version 2's root
	PeakMemory   uint64 // bytes
	KernelMemory uint64 // bytes
	Reservation  uint64 // bytes: soft limit, or memory.min
	BothLimit    uint64 // bytes: the limit of memory and swap together (version 1), of swap (2); 0: none
	MemoryFails  uint64 // how often the limit was hit
	OOMKills     uint64

	MaxProcesses uint64 // and threads; 0: no limit
	PIDs         []int  // processes of the cgroup itself, at most MaxPIDs of them
	IO           []DeviceIO
}

// Throttling says how the quota was felt.
type Throttling struct {
	Periods, Throttled, Bursts  uint64
	ThrottledTime, BurstingTime uint64 // ns
}

// DeviceIO is what was read from a block device and written to it.
type DeviceIO struct {
	Major, Minor            uint64
	ReadBytes, WrittenBytes uint64
	Reads, Writes           uint64
}

// Bounds of what is read of one cgroup: how much there is, its members decide.
const (
	MaxPIDs     = 4096
	maxDevices  = 64
	maxChildren = 1024
)

// Full reads the cgroup with that path below the root of all cgroups. The error says that
// there is none.
func (r *Reader) Full(path string) (Full, error) {
	dirs := r.at(path)
	f := Full{At: time.Now()}
	if len(dirs) == 0 {
		return f, fmt.Errorf("no cgroup %s", path)
	}
	var err error
	if r.unified != "" {
		err = f.readV2(dirs[""])
	} else {
		err = f.readV1(dirs)
	}
	if err != nil {
		return f, fmt.Errorf("read the cgroup %s: %w", path, err)
	}
	return f, nil
}

// Born returns when the cgroup with that path was made, as far as its directories tell; zero:
// they do not. It looks at several files of each, which Full spares those who know better.
func (r *Reader) Born(path string) time.Time { return born(r.at(path)) }

// Children returns the names of the cgroups directly below the one with that path.
func (r *Reader) Children(path string) []string {
	dirs := r.at(path)
	dir := cmp.Or(dirs[""], dirs["cpuacct"], dirs["memory"])
	if r.unified == "" {
		dir = cmp.Or(dirs["cpuacct"], dirs["memory"])
	}
	if dir == "" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	entries, err := d.ReadDir(4 * maxChildren) // a cgroup has some dozens of files besides
	if err != nil && err != io.EOF {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && len(names) < maxChildren {
			names = append(names, e.Name())
		}
	}
	return names
}

// Own returns the path of a process's cgroup below the root of all cgroups, by the controller
// of memory. pid "self" is the caller.
func (r *Reader) Own(pid string) (string, error) {
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return "", fmt.Errorf("find the cgroup of process %s: %w", pid, err)
	}
	for l := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(l, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		if r.unified != "" && f[1] == "" || r.unified == "" && slices.Contains(strings.Split(f[1], ","), "memory") {
			return f[2], nil
		}
	}
	return "", fmt.Errorf("process %s is in no cgroup", pid)
}

// at returns the directories of a cgroup by controller. They need not exist.
func (r *Reader) at(path string) map[string]string {
	dirs := map[string]string{}
	for controller, m := range r.mounts {
		below := filepath.Clean("/" + path)
		if root := strings.TrimSuffix(m.root, "/"); root != "" {
			rest, ok := strings.CutPrefix(below, root)
			if !ok || rest != "" && rest[0] != '/' {
				rest = below // an agent in a container sees its own part as the root
			}
			below = rest
		}
		dirs[controller] = filepath.Join(m.point, below)
	}
	return dirs
}

// born returns the time of the oldest of the cgroup's directories. A directory's own time
// changes when a cgroup is made in it, that of a file that nobody writes does not.
func born(dirs map[string]string) time.Time {
	var oldest time.Time
	for _, dir := range dirs {
		for _, file := range []string{"", "cgroup.clone_children", "cgroup.events"} {
			info, err := os.Stat(filepath.Join(dir, file))
			if err == nil && (oldest.IsZero() || info.ModTime().Before(oldest)) {
				oldest = info.ModTime()
			}
		}
	}
	return oldest
}

func (f *Full) readV1(dirs map[string]string) error {
	var err error
	if f.Usage, err = readV1(dirs); err != nil {
		return err
	}
	f.HasMemory = true
	cpu, memory := dirs["cpu"], dirs["memory"]
	var user, system uint64
	_ = fields(dirs["cpuacct"], "cpuacct.stat", map[string]*uint64{"user": &user, "system": &system})
	f.User, f.System = user*userTick, system*userTick
	_ = fields(cpu, "cpu.stat", map[string]*uint64{
		"nr_periods": &f.Throttling.Periods, "nr_throttled": &f.Throttling.Throttled, "throttled_time": &f.Throttling.ThrottledTime,
		"nr_bursts": &f.Throttling.Bursts, "burst_time": &f.Throttling.BurstingTime,
	})
	f.Shares, _ = number(cpu, "cpu.shares")
	f.Period, _ = number(cpu, "cpu.cfs_period_us")
	f.Quota, _ = number(cpu, "cpu.cfs_quota_us") // -1 is not a number here: no quota
	f.PeakMemory, _ = number(memory, "memory.max_usage_in_bytes")
	f.KernelMemory, _ = number(memory, "memory.kmem.usage_in_bytes")
	f.MemoryFails, _ = number(memory, "memory.failcnt")
	soft, _ := number(memory, "memory.soft_limit_in_bytes")
	both, _ := number(memory, "memory.memsw.limit_in_bytes")
	f.Reservation, f.BothLimit = bounded(soft), bounded(both)
	_ = fields(memory, "memory.oom_control", map[string]*uint64{"oom_kill": &f.OOMKills})
	f.MaxProcesses, _ = number(dirs["pids"], "pids.max")
	f.PIDs = processes(cmp.Or(memory, dirs["cpuacct"]))
	f.IO = ioV1(dirs["blkio"])
	return nil
}

// userTick is the unit of cpuacct.stat: USER_HZ is 100 on every architecture that Kubernetes
// runs on.
const userTick = uint64(time.Second / 100)

func (f *Full) readV2(dir string) error {
	var usage, user, system, throttled, bursting uint64
	if err := fields(dir, "cpu.stat", map[string]*uint64{
		"usage_usec": &usage, "user_usec": &user, "system_usec": &system, "nr_periods": &f.Throttling.Periods,
		"nr_throttled": &f.Throttling.Throttled, "throttled_usec": &throttled, "nr_bursts": &f.Throttling.Bursts, "burst_usec": &bursting,
	}); err != nil {
		return err
	}
	// The root has no memory.current; its other files are as elsewhere.
	if u, err := readV2(dir); err == nil {
		f.Usage, f.HasMemory = u, true
	}
	const micro = uint64(time.Microsecond)
	f.CPU, f.User, f.System = usage*micro, user*micro, system*micro
	f.Throttling.ThrottledTime, f.Throttling.BurstingTime = throttled*micro, bursting*micro
	if weight, err := number(dir, "cpu.weight"); err == nil && weight > 0 {
		f.Shares = sharesOf(weight)
	}
	if text, err := readFile(filepath.Join(dir, "cpu.max")); err == nil {
		quota, period, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		f.Quota, _ = strconv.ParseUint(quota, 10, 64) // "max": no quota
		f.Period, _ = strconv.ParseUint(period, 10, 64)
	}
	_ = fields(dir, "memory.stat", map[string]*uint64{"kernel": &f.KernelMemory})
	f.PeakMemory, _ = number(dir, "memory.peak")
	f.Reservation, _ = number(dir, "memory.min")
	f.BothLimit = f.SwapLimit
	_ = fields(dir, "memory.events", map[string]*uint64{"max": &f.MemoryFails, "oom_kill": &f.OOMKills})
	f.MaxProcesses, _ = number(dir, "pids.max")
	f.PIDs = processes(dir)
	f.IO = ioV2(dir)
	return nil
}

// sharesOf turns a weight back into the shares that it was made of (KEP-2254).
func sharesOf(weight uint64) uint64 { return 2 + (weight-min(weight, 1))*262142/9999 }

// processes reads the IDs of a cgroup's processes. IDs that are 0 are of processes that this
// one cannot see.
func processes(dir string) []int {
	text, err := readFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var all []int
	for l := range bytes.Lines(text) {
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(l))); err == nil && pid > 0 && len(all) < MaxPIDs {
			all = append(all, pid)
		}
	}
	return all
}

// devices collects values by device, in the order in which they are found.
type devices struct{ all []DeviceIO }

func (d *devices) of(id string) *DeviceIO {
	major, minor, ok := strings.Cut(id, ":")
	if !ok {
		return nil
	}
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil {
		return nil
	}
	for i := range d.all {
		if d.all[i].Major == a && d.all[i].Minor == b {
			return &d.all[i]
		}
	}
	if len(d.all) == maxDevices {
		return nil
	}
	d.all = append(d.all, DeviceIO{Major: a, Minor: b})
	return &d.all[len(d.all)-1]
}

// ioV1 reads lines of the form "8:0 Read 1234".
func ioV1(dir string) []DeviceIO {
	var d devices
	read := func(file string, into func(*DeviceIO, string) *uint64) {
		text, err := readFile(filepath.Join(dir, file))
		if err != nil {
			return
		}
		for l := range bytes.Lines(text) {
			f := strings.Fields(string(l))
			if len(f) != 3 {
				continue
			}
			if dev := d.of(f[0]); dev != nil {
				if to := into(dev, f[1]); to != nil {
					*to, _ = strconv.ParseUint(f[2], 10, 64)
				}
			}
		}
	}
	read("blkio.throttle.io_service_bytes_recursive", func(d *DeviceIO, what string) *uint64 {
		return map[string]*uint64{"Read": &d.ReadBytes, "Write": &d.WrittenBytes}[what]
	})
	read("blkio.throttle.io_serviced_recursive", func(d *DeviceIO, what string) *uint64 {
		return map[string]*uint64{"Read": &d.Reads, "Write": &d.Writes}[what]
	})
	return d.all
}

// ioV2 reads lines of the form "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6".
func ioV2(dir string) []DeviceIO {
	text, err := readFile(filepath.Join(dir, "io.stat"))
	if err != nil {
		return nil
	}
	var d devices
	for l := range bytes.Lines(text) {
		f := strings.Fields(string(l))
		if len(f) < 2 {
			continue
		}
		dev := d.of(f[0])
		if dev == nil {
			continue
		}
		for _, pair := range f[1:] {
			name, value, _ := strings.Cut(pair, "=")
			if to := map[string]*uint64{"rbytes": &dev.ReadBytes, "wbytes": &dev.WrittenBytes, "rios": &dev.Reads, "wios": &dev.Writes}[name]; to != nil {
				*to, _ = strconv.ParseUint(value, 10, 64)
			}
		}
	}
	return d.all
}

// OpenFiles counts the open files of processes, and how many of these are sockets. It looks
// at no more than maxOpenFiles of them: a container can have any number.
func OpenFiles(pids []int) (files, sockets uint64) {
	const maxOpenFiles = 8192
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		d, err := os.Open(dir)
		if err != nil {
			continue // it has ended
		}
		names, _ := d.Readdirnames(maxOpenFiles - int(files) + 1)
		d.Close()
		for _, name := range names {
			if files++; files > maxOpenFiles {
				return files, sockets
			}
			if to, err := os.Readlink(dir + "/" + name); err == nil && strings.HasPrefix(to, "socket:") {
				sockets++
			}
		}
	}
	return files, sockets
}
