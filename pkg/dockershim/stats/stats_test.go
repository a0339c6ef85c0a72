package stats

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
	want := Usage{CPU: 123456789, Memory: 10000000, WorkingSet: 6000000, RSS: 5000000, MemoryLimit: 67108864, PageFaults: 11, MajorFaults: 12, Swap: 500000, SwapLimit: 10000000, Processes: 3}
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
	if want := (Usage{CPU: 1, Memory: 10}); got != want { // no working set below zero
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
	want := Usage{CPU: 1500000, Memory: 1000, WorkingSet: 700, RSS: 400, PageFaults: 5, MajorFaults: 6, Swap: 7, SwapLimit: 100, Processes: 2,
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

func TestRates(t *testing.T) {
	var r Rates
	at := time.Unix(1000, 0)
	step := func(cpu uint64, after time.Duration, want uint64, known bool) {
		t.Helper()
		at = at.Add(after)
		if got, ok := r.Of("c", cpu, at); got != want || ok != known {
			t.Errorf("rate %d, %v; want %d, %v", got, ok, want, known)
		}
	}
	step(0, 0, 0, false)
	step(5e8, time.Second, 5e8, true)
	step(9e8, 10*time.Millisecond, 5e8, true) // too soon to say anything new
	step(1e9, 2*time.Second, 248756218, true)
	step(5, time.Second, 0, false) // it began anew
	r.Forget("c")
	step(0, time.Second, 0, false)
}

func TestLayersAreMeasuredInTheBackground(t *testing.T) {
	dir := files(t, map[string]string{"a": strings.Repeat("x", 10000), "b": "y"})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := NewLayers()
		go func() { _ = l.Run(ctx) }()
		look := func(what string, inodes uint64) {
			t.Helper()
			d, ok := l.Of("c", dir)
			if ok != (inodes > 0) || d.Inodes != inodes {
				t.Errorf("%s: %+v, %v; want %d inodes", what, d, ok, inodes)
			}
			synctest.Wait()
		}
		look("before it was measured", 0)
		look("measured", 3)
		if err := os.WriteFile(filepath.Join(dir, "c"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		look("so soon after it", 3)
		look("so soon after it, still", 3)
		time.Sleep(6 * time.Second)
		look("old", 3)
		look("measured again", 4)
		l.Forget("c")
		look("forgotten", 0)
		cancel()
	})
}

// A layer that takes its two minutes and fails must not be measured all the time.
func TestALayerThatCannotBeMeasuredRestsAsWell(t *testing.T) {
	dir := t.TempDir()
	late := filepath.Join(dir, "late")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := NewLayers()
		go func() { _ = l.Run(ctx) }()
		look := func(what string, want bool) {
			t.Helper()
			if d, ok := l.Of("late", late); ok != want {
				t.Errorf("%s: %+v, %v", what, d, ok)
			}
			synctest.Wait()
		}
		look("at first", false)
		if err := os.Mkdir(late, 0o755); err != nil {
			t.Fatal(err)
		}
		look("failed", false)
		time.Sleep(5 * time.Second)
		look("so soon after it", false)
		if d, ok := l.Of("other", dir); ok {
			t.Errorf("the other: %+v", d)
		}
		synctest.Wait()
		if d, ok := l.Of("other", dir); !ok || d.Inodes != 2 {
			t.Errorf("the other, measured: %+v, %v", d, ok)
		}
		time.Sleep(5 * time.Second)
		look("old", false)
		look("tried again", true)
	})
}
