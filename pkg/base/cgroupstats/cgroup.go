package cgroupstats

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
)

// Usage is what a cgroup uses. Values that the kernel does not provide are zero.
type Usage struct {
	CPU         uint64 // ns since its start
	Memory      uint64 // bytes, page cache included
	WorkingSet  uint64 // bytes: Memory without inactive file pages, as the kubelet defines it
	RSS         uint64
	MemoryLimit uint64 // 0: none
	PageFaults  uint64
	MajorFaults uint64
	Swap        uint64
	SwapLimit   uint64 // 0: none, or not known
	Cache       uint64
	MappedFile  uint64
	Active      uint64   // active file pages
	Inactive    uint64   // inactive file pages
	Processes   uint64   // and threads
	Pressure    Pressure // cgroup v2 only
}

// Pressure is pressure stall information; nil where the kernel does not keep it.
type Pressure struct{ CPU, Memory, IO *Stall }

// Reader finds and reads the cgroups of containers. Its methods are safe for concurrent use.
type Reader struct {
	unified string            // mount point of version 2; "" on version 1
	mounts  map[string]*mount // of version 1, by controller

	mu    sync.Mutex
	found map[string]map[string]string // by container: controller to directory, "" for version 2
}

type mount struct{ root, point string }

// New finds out how this machine's cgroups are mounted.
func New() (*Reader, error) {
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("find the cgroup mounts: %w", err)
	}
	r := &Reader{mounts: map[string]*mount{}, found: map[string]map[string]string{}}
	for _, m := range infos {
		at := &mount{m.Root, m.Mountpoint}
		if m.FSType == "cgroup2" {
			r.mounts[""] = at
			continue
		}
		for option := range strings.SplitSeq(m.VFSOptions, ",") {
			if slices.Contains([]string{"cpu", "cpuacct", "memory", "pids", "blkio"}, option) {
				r.mounts[option] = at
			}
		}
	}
	if len(r.mounts) == 0 {
		return nil, errors.New("no cgroup file system is mounted")
	}
	// When both are mounted, the controllers belong to version 1.
	if v2 := r.mounts[""]; v2 != nil && r.mounts["memory"] == nil {
		r.unified = v2.point
	}
	return r, nil
}

// Read reads a container's cgroup, found by one of its processes.
func (r *Reader) Read(id string, pid int) (Usage, error) {
	dirs, err := r.dirs(id, pid)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	if r.unified != "" {
		u, err = readV2(dirs[""])
	} else {
		u, err = readV1(dirs)
	}
	if err != nil {
		r.Forget(id) // the process may be another by now
	}
	return u, err
}

// Forget drops what is remembered about a container.
func (r *Reader) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.found, id)
}

func (r *Reader) dirs(id string, pid int) (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if dirs := r.found[id]; dirs != nil {
		return dirs, nil
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup of process %d: %w", pid, err)
	}
	dirs := r.directories(id, string(text))
	if len(dirs) == 0 {
		return nil, fmt.Errorf("process %d is not of container %s", pid, id)
	}
	r.found[id] = dirs
	return dirs, nil
}

// directories finds a container's cgroups from /proc/<pid>/cgroup of one of its processes, with
// lines of the form "id:controllers:path". A container that can write to its cgroup may have
// moved the process to a cgroup below that, with any name. The container's own is the first
// with its ID in the name, which every cgroup driver puts there.
func (r *Reader) directories(id, text string) map[string]string {
	dirs := map[string]string{}
	for l := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(l, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		path, ok := upTo(id, f[2])
		if !ok {
			continue
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			if m := r.mounts[controller]; m != nil {
				// An agent that runs in a container sees only a part of the tree.
				dirs[controller] = filepath.Join(m.point, strings.TrimPrefix(path, strings.TrimSuffix(m.root, "/")))
			}
		}
	}
	return dirs
}

// upTo cuts a path after the first element that has the ID in it.
func upTo(id, path string) (string, bool) {
	at := strings.Index(path, id)
	if id == "" || at < 0 {
		return "", false
	}
	if end := strings.IndexByte(path[at:], '/'); end >= 0 {
		path = path[:at+end]
	}
	return path, true
}

func readV1(dirs map[string]string) (Usage, error) {
	var u Usage
	var err error
	if u.CPU, err = number(dirs["cpuacct"], "cpuacct.usage"); err != nil {
		return u, err
	}
	memory := dirs["memory"]
	if u.Memory, err = number(memory, "memory.usage_in_bytes"); err != nil {
		return u, err
	}
	var limit uint64
	if err := fields(memory, "memory.stat", map[string]*uint64{
		"total_cache": &u.Cache, "total_mapped_file": &u.MappedFile, "total_active_file": &u.Active,
		"total_inactive_file": &u.Inactive, "total_rss": &u.RSS, "total_pgfault": &u.PageFaults, "total_pgmajfault": &u.MajorFaults,
		"hierarchical_memory_limit": &limit,
	}); err != nil {
		return u, err
	}
	u.MemoryLimit = bounded(limit)
	u.WorkingSet = u.Memory - min(u.Memory, u.Inactive)
	// Memory and swap together, where the kernel accounts for swap.
	if both, err := number(memory, "memory.memsw.usage_in_bytes"); err == nil {
		u.Swap = both - min(both, u.Memory)
		if most, err := number(memory, "memory.memsw.limit_in_bytes"); err == nil && bounded(most) > 0 {
			u.SwapLimit = most - min(most, u.MemoryLimit)
		}
	}
	u.Processes, _ = number(dirs["pids"], "pids.current") // not every kernel has it
	return u, nil
}

func readV2(dir string) (Usage, error) {
	var u Usage
	var usec uint64
	if err := fields(dir, "cpu.stat", map[string]*uint64{"usage_usec": &usec}); err != nil {
		return u, err
	}
	u.CPU = usec * 1000
	var err error
	if u.Memory, err = number(dir, "memory.current"); err != nil {
		return u, err
	}
	if err := fields(dir, "memory.stat", map[string]*uint64{
		"file": &u.Cache, "file_mapped": &u.MappedFile, "active_file": &u.Active, "inactive_file": &u.Inactive, "anon": &u.RSS, "pgfault": &u.PageFaults, "pgmajfault": &u.MajorFaults,
	}); err != nil {
		return u, err
	}
	u.WorkingSet = u.Memory - min(u.Memory, u.Inactive)
	u.MemoryLimit, _ = number(dir, "memory.max") // "max" is not a number: no limit
	u.Swap, _ = number(dir, "memory.swap.current")
	u.SwapLimit, _ = number(dir, "memory.swap.max")
	u.Processes, _ = number(dir, "pids.current")
	u.Pressure = Pressure{stall(dir, "cpu.pressure"), stall(dir, "memory.pressure"), stall(dir, "io.pressure")}
	return u, nil
}

// bounded returns a limit, or 0 for the value that version 1 has when there is none.
func bounded(limit uint64) uint64 {
	if limit >= 1<<62 {
		return 0
	}
	return limit
}

// number reads a file with one number.
func number(dir, file string) (uint64, error) {
	if dir == "" {
		return 0, fmt.Errorf("no cgroup with %s", file)
	}
	text, err := readFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
}

// fields reads some of the lines "name number" of a file.
func fields(dir, file string, into map[string]*uint64) error {
	text, err := readFile(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	parseFields(text, into)
	return nil
}

func parseFields(text []byte, into map[string]*uint64) {
	for l := range bytes.Lines(text) {
		name, value, ok := bytes.Cut(bytes.TrimSuffix(l, []byte("\n")), []byte(" "))
		if !ok {
			continue
		}
		if to := into[string(name)]; to != nil {
			*to, _ = strconv.ParseUint(string(value), 10, 64)
		}
	}
}
