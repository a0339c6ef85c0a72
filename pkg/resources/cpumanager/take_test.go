package cpumanager

import (
	"encoding/json"
	"os"
	"testing"

	"k8s.io/utils/cpuset"
)

func set(t *testing.T, s string) cpuset.CPUSet {
	t.Helper()
	cpus, err := cpuset.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return cpus
}

// machine has cores numbered through all sockets; the second threads of all cores
// come after the first ones, as Linux numbers them.
func machine(sockets, nodesPerSocket, cores, threads int) Topology {
	t := Topology{}
	for c := range sockets * cores {
		for th := range threads {
			s := c / cores
			t[c+th*sockets*cores] = Place{Core: c, Socket: s, NUMA: s*nodesPerSocket + c%cores*nodesPerSocket/cores}
		}
	}
	return t
}

func TestTake(t *testing.T) {
	oneSocket, twoSockets, subNUMA := machine(1, 1, 4, 2), machine(2, 1, 6, 2), machine(2, 2, 8, 2)
	for name, tt := range map[string]struct {
		topology  Topology
		available string
		n         int
		want      string // or the error
	}{
		"none":                                    {oneSocket, "0-7", 0, ""},
		"a whole core before two halves":          {oneSocket, "0-7", 2, "0,4"},
		"a core and the thread of the next":       {oneSocket, "0-7", 3, "0-1,4"},
		"one thread from a core that is broken":   {oneSocket, "0-3,5-7", 1, "0"},
		"more than there are":                     {oneSocket, "0-3", 5, "not enough cpus available to satisfy request: requested=5, available=4"},
		"all":                                     {oneSocket, "0-7", 8, "0-7"},
		"a whole socket":                          {twoSockets, "0-23", 12, "0-5,12-17"},
		"a whole socket though the other is used": {twoSockets, "1-23", 12, "6-11,18-23"},
		"the socket where fewer are free":         {twoSockets, "0-5,8-11,12-17,20-23", 2, "8,20"},
		"a socket, then what is used already":     {twoSockets, "2-23", 14, "2,6-11,14,18-23"},
		"a NUMA node of a socket":                 {subNUMA, "0-31", 8, "0-3,16-19"},
		"a NUMA node where the socket is used":    {subNUMA, "1-31", 8, "4-7,20-23"},
		"cores one by one":                        {machine(1, 1, 2, 1), "0-1", 1, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tt.topology.take(set(t, tt.available), tt.n)
			text := got.String()
			if err != nil {
				text = err.Error()
			}
			if text != tt.want {
				t.Errorf("take(%s, %d) = %q, want %q", tt.available, tt.n, text, tt.want)
			}
		})
	}
}

// testdata/take.json has random cases and what the kubelet 1.36.3 takes in each
// (takeByTopologyNUMAPacked, without uncore caches).
func TestTakeAsTheKubeletDoes(t *testing.T) {
	text, err := os.ReadFile("testdata/take.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Machines map[string]map[int][3]int // by CPU: core, socket, NUMA node
		Cases    []struct {
			Machine, Available, Taken string
			N                         int
		}
	}
	if err := json.Unmarshal(text, &file); err != nil || len(file.Cases) == 0 {
		t.Fatal(err, len(file.Cases))
	}
	machines := map[string]Topology{}
	for name, cpus := range file.Machines {
		machines[name] = Topology{}
		for cpu, p := range cpus {
			machines[name][cpu] = Place{Core: p[0], Socket: p[1], NUMA: p[2]}
		}
	}
	for _, c := range file.Cases {
		got, err := machines[c.Machine].take(set(t, c.Available), c.N)
		text := got.String()
		if err != nil {
			text = err.Error()
		}
		if text != c.Taken {
			t.Errorf("%s: take(%s, %d) = %q, the kubelet %q", c.Machine, c.Available, c.N, text, c.Taken)
		}
	}
}
