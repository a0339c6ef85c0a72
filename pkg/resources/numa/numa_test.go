package numa

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSubsets(t *testing.T) {
	for _, tt := range []struct {
		of   Set
		want []Set
	}{
		{0, nil},
		{Of(3), []Set{Of(3)}},
		{Of(0, 2, 5), []Set{Of(0), Of(2), Of(0, 2), Of(5), Of(0, 5), Of(2, 5), Of(0, 2, 5)}},
		{Of(63), []Set{Of(63)}},
	} {
		if got := slices.Collect(tt.of.Subsets()); !slices.Equal(got, tt.want) {
			t.Errorf("subsets of %s are %v, want %v", tt.of, got, tt.want)
		}
	}
}

func TestSet(t *testing.T) {
	s := Of(0, 1, 3, -1, 64)
	if s.String() != "0-1,3" || s.Len() != 3 || !s.Has(3) || s.Has(2) || s.Has(-1) || s.Has(64) {
		t.Errorf("%s of %d nodes", s, s.Len())
	}
	for _, tt := range []struct {
		a, b Set
		want bool
	}{{Of(3), Of(0, 1), true}, {Of(0, 1), Of(3), false}, {Of(0, 3), Of(1, 3), true}, {Of(1), Of(1), false}} {
		if got := tt.a.Narrower(tt.b); got != tt.want {
			t.Errorf("%s narrower than %s: %t", tt.a, tt.b, got)
		}
	}
}

func TestDiscover(t *testing.T) {
	const meminfo = "Node 0 MemTotal:       1024 kB\nNode 0 MemFree:         12 kB\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  Nodes
		err   string
	}{
		"a kernel without NUMA": {nil, Nodes{{}}, ""},
		"two nodes, one of memory only, and a gap in the numbers": {map[string]string{
			"node0/meminfo": meminfo, "node0/distance": "10 21", "node0/cpulist": "0-3",
			"node0/hugepages/hugepages-2048kB/nr_hugepages": "3", "node0/hugepages/hugepages-1048576kB/nr_hugepages": "0",
			"node2/meminfo": strings.ReplaceAll(meminfo, "Node 0", "Node 2"), "node2/distance": "21 10", "node2/cpulist": "",
		}, Nodes{
			{ID: 0, Memory: 1 << 20, Distances: map[int]int{0: 10, 2: 21}, HugePages: map[uint64]uint64{2 << 20: 3, 1 << 30: 0}},
			{ID: 2, Memory: 1 << 20, Distances: map[int]int{0: 21, 2: 10}, HugePages: map[uint64]uint64{}},
		}, ""},
		"the tenth node comes after the second": {map[string]string{"node10/cpulist": "", "node2/cpulist": ""},
			Nodes{{ID: 2, HugePages: map[uint64]uint64{}}, {ID: 10, HugePages: map[uint64]uint64{}}}, ""},
		"distances that are too few":  {map[string]string{"node0/distance": "10", "node1/distance": "10"}, nil, "1 numbers for 2 nodes"},
		"distances that are none":     {map[string]string{"node0/distance": "far"}, nil, "find out how far NUMA node 0 is"},
		"a node with no MemTotal":     {map[string]string{"node0/meminfo": "Node 0 MemFree: 1 kB"}, nil, "no MemTotal"},
		"memory beyond all numbers":   {map[string]string{"node0/meminfo": "Node 0 MemTotal: 99999999999999999999 kB"}, nil, "find out the memory of NUMA node 0"},
		"huge pages that are no size": {map[string]string{"node0/hugepages/hugepages-bigkB/nr_hugepages": "1"}, nil, "find out the huge pages of NUMA node 0"},
		"a number too high":           {map[string]string{"node64/cpulist": "0"}, nil, "NUMA node 64"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range tt.files {
				path := filepath.Join(root, "node", file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Discover(root)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Discover = %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestThisMachineHasANode(t *testing.T) {
	if got, err := Discover("/sys/devices/system"); err != nil || got.All() == 0 {
		t.Fatalf("Discover = %+v, %v", got, err)
	}
}
