package cgroupstats

import (
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// files writes a directory of small files.
func files(t *testing.T, all map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVersion1(t *testing.T) {
	dir := files(t, map[string]string{
		"cpuacct.usage":         "123456789\n",
		"memory.usage_in_bytes": "10000000\n",
		"memory.stat": "cache 1\ntotal_cache 3\nrss 7\ninactive_file 1\ntotal_inactive_file 4000000\ntotal_rss 5000000\n" +
			"total_pgfault 11\ntotal_pgmajfault 12\nhierarchical_memory_limit 67108864\n",
		"memory.memsw.usage_in_bytes": "10500000\n",
		"memory.memsw.limit_in_bytes": "77108864\n",
		"pids.current":                "3\n",
	})
	got, err := readV1(map[string]string{"cpuacct": dir, "memory": dir, "pids": dir})
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{CPU: 123456789, Memory: 10000000, WorkingSet: 6000000, RSS: 5000000, MemoryLimit: 67108864, PageFaults: 11, MajorFaults: 12, Swap: 500000, SwapLimit: 10000000,
		Cache: 3, Inactive: 4000000, Processes: 3}
	if got != want {
		t.Errorf("usage %+v, want %+v", got, want)
	}
}

func TestVersion1WithoutLimitsSwapAndPids(t *testing.T) {
	dir := files(t, map[string]string{
		"cpuacct.usage": "1\n", "memory.usage_in_bytes": "10\n", "memory.stat": "total_inactive_file 20\nhierarchical_memory_limit 9223372036854771712\n",
	})
	got, err := readV1(map[string]string{"cpuacct": dir, "memory": dir})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Usage{CPU: 1, Memory: 10, Inactive: 20}); got != want { // no working set below zero
		t.Errorf("usage %+v, want %+v", got, want)
	}
}

func TestVersion2(t *testing.T) {
	dir := files(t, map[string]string{
		"cpu.stat":            "usage_usec 1500\nuser_usec 1\n",
		"memory.current":      "1000\n",
		"memory.stat":         "anon 400\ninactive_file 300\npgfault 5\npgmajfault 6\n",
		"memory.max":          "max\n",
		"memory.swap.current": "7\n",
		"memory.swap.max":     "100\n",
		"pids.current":        "2\n",
		"cpu.pressure":        "some avg10=1.50 avg60=0.20 avg300=0.03 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
	})
	got, err := readV2(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{CPU: 1500000, Memory: 1000, WorkingSet: 700, RSS: 400, PageFaults: 5, MajorFaults: 6, Swap: 7, SwapLimit: 100, Inactive: 300, Processes: 2,
		Pressure: Pressure{CPU: &Stall{Some: Waited{1.5, 0.2, 0.03, 42}, Full: Waited{Total: 7}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("usage %+v, want %+v", got, want)
	}
}

func TestWhatHasEndedIsAnError(t *testing.T) {
	if _, err := readV1(map[string]string{"cpuacct": filepath.Join(t.TempDir(), "gone")}); err == nil {
		t.Error("version 1: no error")
	}
	if _, err := readV2(filepath.Join(t.TempDir(), "gone")); err == nil {
		t.Error("version 2: no error")
	}
}

func TestDirectories(t *testing.T) {
	r := &Reader{mounts: map[string]*mount{"cpuacct": {"/", "/sys/fs/cgroup/cpu,cpuacct"}, "memory": {"/docker/abc", "/sys/fs/cgroup/memory"}, "": {"/", "/sys/fs/cgroup/unified"}}}
	got := r.directories("x1", "5:cpu,cpuacct:/kubepods/x1\n4:memory:/docker/abc/kubepods/x1\n3:freezer:/x1\n0::/z/docker-x1.scope\ngarbage\n")
	want := map[string]string{"cpuacct": "/sys/fs/cgroup/cpu,cpuacct/kubepods/x1", "memory": "/sys/fs/cgroup/memory/kubepods/x1", "": "/sys/fs/cgroup/unified/z/docker-x1.scope"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("directories %v, want %v", got, want)
	}
}

// TestCgroupsThatAContainerMade: a container that can write to its cgroup moves its
// first process into one below, which says little of what it uses.
func TestCgroupsThatAContainerMade(t *testing.T) {
	r := &Reader{mounts: map[string]*mount{"": {"/", "/cg"}}}
	for at, want := range map[string]string{
		"/kubepods/x1/idle":                  "/cg/kubepods/x1",
		"/kubepods/docker-x1.scope/a/b":      "/cg/kubepods/docker-x1.scope",
		"/kubepods/x1/docker-x1.scope":       "/cg/kubepods/x1",
		"/kubepods/x1/../../../etc":          "/cg/kubepods/x1",
		"/kubepods/x1/other/x2":              "/cg/kubepods/x1",
		"/kubepods/x2":                       "", // the pid is another's by now
		"/user.slice/of a process of nobody": "",
	} {
		if got := r.directories("x1", "0::"+at+"\n")[""]; got != want {
			t.Errorf("of a process in %q: %q, want %q", at, got, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	text := `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0
` + "  \xffth1: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
	want := []Interface{{Name: "eth0", RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8}}
	if got := parseNetwork([]byte(text)); !reflect.DeepEqual(got, want) { // no text, no name
		t.Errorf("interfaces %+v, want %+v", got, want)
	}
	if got := parseNetwork([]byte(strings.Repeat(" d0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n", 10000))); len(got) != maxInterfaces {
		t.Errorf("of 10000 interfaces %d are told, want %d", len(got), maxInterfaces)
	}
}

func TestAllOfACgroupOfVersion1(t *testing.T) {
	dir := files(t, map[string]string{
		"cpuacct.usage": "2000000000\n", "cpuacct.stat": "user 150\nsystem 50\n",
		"cpu.stat": "nr_periods 40\nnr_throttled 10\nthrottled_time 5000000000\n", "cpu.shares": "102\n",
		"cpu.cfs_period_us": "100000\n", "cpu.cfs_quota_us": "10000\n",
		"memory.usage_in_bytes": "100\n", "memory.stat": "total_cache 60\ntotal_rss 30\nhierarchical_memory_limit 1000\n",
		"memory.max_usage_in_bytes": "200\n", "memory.failcnt": "3\n", "memory.soft_limit_in_bytes": "9223372036854771712\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "pids.current": "5\n", "pids.max": "max\n", "cgroup.procs": "7\n0\n9\n",
		"blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\n8:16 Read 1\nTotal 4609\n",
		"blkio.throttle.io_serviced_recursive":      "8:0 Read 2\n8:0 Write 1\nx:y Read 3\nTotal 3\n",
	})
	var f Full
	if err := f.readV1(map[string]string{"cpu": dir, "cpuacct": dir, "memory": dir, "pids": dir, "blkio": dir}); err != nil {
		t.Fatal(err)
	}
	want := Full{
		Usage: Usage{CPU: 2e9, Memory: 100, WorkingSet: 100, RSS: 30, Cache: 60, MemoryLimit: 1000, Processes: 5},
		User:  15e8, System: 5e8, Shares: 102, Quota: 10000, Period: 100000, Throttling: Throttling{Periods: 40, Throttled: 10, ThrottledTime: 5e9},
		HasMemory: true, PeakMemory: 200, MemoryFails: 3, OOMKills: 2, PIDs: []int{7, 9},
		IO: []DeviceIO{{Major: 8, ReadBytes: 4096, WrittenBytes: 512, Reads: 2, Writes: 1}, {Major: 8, Minor: 16, ReadBytes: 1}},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("read %+v\nwant %+v", f, want)
	}
}

func TestAllOfACgroupOfVersion2(t *testing.T) {
	dir := files(t, map[string]string{
		"cpu.stat":   "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\nnr_periods 40\nnr_throttled 10\nthrottled_usec 5000000\n",
		"cpu.weight": "100\n", "cpu.max": "max 100000\n",
		"memory.current": "100\n", "memory.stat": "anon 30\nfile 60\nkernel 5\n", "memory.peak": "200\n", "memory.events": "high 1\nmax 3\noom 2\noom_kill 2\n",
		"pids.max": "64\n", "cgroup.procs": "7\n", "io.stat": "8:0 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=0 dios=0\n7:0 \n",
	})
	var f Full
	if err := f.readV2(dir); err != nil {
		t.Fatal(err)
	}
	want := Full{
		Usage: Usage{CPU: 2e9, Memory: 100, WorkingSet: 100, RSS: 30, Cache: 60},
		User:  15e8, System: 5e8, Shares: 2597, Period: 100000, Throttling: Throttling{Periods: 40, Throttled: 10, ThrottledTime: 5e9},
		HasMemory: true, PeakMemory: 200, KernelMemory: 5, MemoryFails: 3, OOMKills: 2, MaxProcesses: 64, PIDs: []int{7},
		IO: []DeviceIO{{Major: 8, ReadBytes: 4096, WrittenBytes: 512, Reads: 2, Writes: 1}},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("read %+v\nwant %+v", f, want)
	}
}

func TestPathsBelowTheMounts(t *testing.T) {
	r := &Reader{mounts: map[string]*mount{"memory": {"/", "/cg/memory"}, "cpu": {"/docker/abc", "/cg/cpu"}}}
	for path, want := range map[string][2]string{
		"/":                        {"/cg/memory", "/cg/cpu"},
		"/kubepods/x":              {"/cg/memory/kubepods/x", "/cg/cpu/kubepods/x"},
		"/docker/abc/kubepods":     {"/cg/memory/docker/abc/kubepods", "/cg/cpu/kubepods"},
		"/docker/abcd":             {"/cg/memory/docker/abcd", "/cg/cpu/docker/abcd"},
		"/kubepods/../../../../..": {"/cg/memory", "/cg/cpu"},
	} {
		got := r.at(path)
		if got["memory"] != want[0] || got["cpu"] != want[1] {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

func TestThisMachinesRoot(t *testing.T) {
	r, err := New()
	if err != nil {
		t.Skip(err)
	}
	f, err := r.Full("/")
	if err != nil || f.CPU == 0 || r.Born("/").IsZero() {
		t.Errorf("root %+v of %v, %v", f, r.Born("/"), err)
	}
	own, err := r.Own("self")
	if err != nil || !strings.HasPrefix(own, "/") {
		t.Errorf("own cgroup %q, %v", own, err)
	}
	if _, err := r.Full("/there/is/none"); err == nil {
		t.Error("no error for a cgroup that does not exist")
	}
	if files, _ := OpenFiles([]int{os.Getpid()}); files == 0 {
		t.Error("no open files")
	}
}

func TestListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := Listener("unix://" + path); got != os.Getpid() {
		t.Errorf("process %d listens, want %d", got, os.Getpid())
	}
	if got := Listener("tcp://127.0.0.1:1"); got != 0 {
		t.Errorf("process %d listens on TCP", got)
	}
}
