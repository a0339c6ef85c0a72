package cpumanager

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sysfs writes files below a directory that it returns.
func sysfs(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDiscover(t *testing.T) {
	hyperthreads := map[string]string{
		"cpu/online":                             "0-3",
		"cpu/cpu0/topology/thread_siblings_list": "0,2", "cpu/cpu0/topology/physical_package_id": "0",
		"cpu/cpu1/topology/thread_siblings_list": "1,3", "cpu/cpu1/topology/physical_package_id": "1",
		"cpu/cpu2/topology/thread_siblings_list": "0,2", "cpu/cpu2/topology/physical_package_id": "0",
		"cpu/cpu3/topology/thread_siblings_list": "1,3", "cpu/cpu3/topology/physical_package_id": "1",
		"node/node0/cpulist": "0,2", "node/node1/cpulist": "1,3", "node/online": "0-1",
	}
	with := func(name, text string) map[string]string {
		files := maps.Clone(hyperthreads)
		files[name] = text
		return files
	}
	for name, tt := range map[string]struct {
		files map[string]string
		want  Topology
		err   string
	}{
		"two sockets, two NUMA nodes, hyper-threads": {hyperthreads,
			Topology{0: {0, 0, 0}, 1: {1, 1, 1}, 2: {0, 0, 0}, 3: {1, 1, 1}}, ""},
		"a CPU that is offline": {with("cpu/online", "1-3"),
			Topology{1: {1, 1, 1}, 2: {2, 0, 0}, 3: {1, 1, 1}}, ""},
		"a NUMA node of memory only": {with("node/node2/cpulist", ""),
			Topology{0: {0, 0, 0}, 1: {1, 1, 1}, 2: {0, 0, 0}, 3: {1, 1, 1}}, ""},
		"a kernel that tells nothing": {map[string]string{"cpu/online": "0-1"},
			Topology{0: {0, 0, 0}, 1: {1, 0, 0}}, ""},
		"no socket's number": {with("cpu/cpu1/topology/physical_package_id", "-1"),
			Topology{0: {0, 0, 0}, 1: {1, 0, 1}, 2: {0, 0, 0}, 3: {1, 1, 1}}, ""},
		"no CPUs":                {map[string]string{}, nil, "find out which CPUs are online"},
		"none online":            {map[string]string{"cpu/online": ""}, nil, "none is"},
		"siblings are no list":   {with("cpu/cpu2/topology/thread_siblings_list", "x"), nil, "find out the core of CPU 2"},
		"NUMA node with no list": {with("node/node1/cpulist", "1-"), nil, "find out the CPUs of NUMA node 1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Discover(sysfs(t, tt.files))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, tt.want) {
				t.Errorf("Discover = %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestThisMachineHasATopology(t *testing.T) {
	got, err := Discover("/sys/devices/system")
	if err != nil || len(got) == 0 {
		t.Fatalf("Discover = %v, %v", got, err)
	}
}
