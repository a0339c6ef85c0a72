package cpumanager

import (
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
)

// What the kubelet 1.37 takes with distribute-cpus-across-numa (its TestTakeByTopologyNUMADistributed), on machines
// whose threads and nodes are numbered as there.
func TestDistribute(t *testing.T) {
	twoSockets, fourNodes, eightNodes := machine(2, 1, 3, 2), machine(2, 2, 20, 2), machine(2, 4, 64, 2)
	for name, tt := range map[string]struct {
		topology  Topology
		available string
		n, group  int
		want      string // or the error
	}{
		"none":                                  {twoSockets, "0-11", 0, 1, ""},
		"more than there are":                   {twoSockets, "0-3", 5, 1, "not enough cpus available to satisfy request: requested=5, available=4"},
		"one node has enough":                   {twoSockets, "0-11", 4, 1, "0-1,6-7"},
		"half of either of two":                 {twoSockets, "0-11", 8, 1, "0-1,3-4,6-7,9-10"},
		"a thread where more are free":          {twoSockets, "1-5,7-11", 1, 1, "3"},
		"no whole group":                        {twoSockets, "1-5,7-11", 1, 2, "1"},
		"equally much of four":                  {fourNodes, "0-79", 64, 1, "0-7,10-17,20-27,30-37,40-47,50-57,60-67,70-77"},
		"the first three of four":               {fourNodes, "0-79", 48, 1, "0-7,10-17,20-27,40-47,50-57,60-67"},
		"two of the first are taken":            {fourNodes, "1-29,32-39,41-69,72-79", 48, 1, "1-8,10-17,20-27,41-48,50-57,60-67"},
		"the last three are left more equal":    {fourNodes, "2-29,31-39,42-69,71-79", 48, 1, "10-17,20-27,31-38,50-57,60-67,71-78"},
		"little of each":                        {fourNodes, "0-2,10-12,20-22,30-32,40-41,50-51,60-61,70-71", 16, 1, "0-1,10-11,20-21,30-31,40-41,50-51,60-61,70-71"},
		"an odd number of cores":                {fourNodes, "0-79", 26, 1, "0-6,10-16,40-45,50-55"},
		"an odd number of whole cores":          {fourNodes, "0-79", 26, 2, "0-6,10-15,40-46,50-55"},
		"a thread more of two":                  {fourNodes, "0-79", 62, 1, "0-7,10-17,20-27,30-37,40-47,50-57,60-66,70-76"},
		"a core more of three":                  {fourNodes, "0-79", 62, 2, "0-7,10-17,20-27,30-36,40-47,50-57,60-67,70-76"},
		"a thread more where more are free":     {fourNodes, "0-8,10-18,20-39,40-48,50-58,60-79", 62, 1, "0-7,10-17,20-27,30-37,40-46,50-56,60-67,70-77"},
		"a core more where more are free":       {fourNodes, "0-8,10-18,20-39,40-48,50-58,60-79", 62, 2, "0-7,10-16,20-27,30-37,40-47,50-56,60-67,70-77"},
		"what is left over only where there is": {fourNodes, "0-3,10-13,20-23,30-36,40-43,50-53,60-63,70-76", 34, 1, "0-3,10-13,20-23,30-34,40-43,50-53,60-63,70-74"},
		"eight nodes": {eightNodes, "0,128,30,31,158,159,43-47,171-175,62,63,190,191,75-79,203-207,94,96,222,223,101-111,229-239,126,127,254,255", 28, 1,
			"43-47,75-79,96,101-105,171-174,203-206,229-232"},
		"groups are counted, not looked for": {fourNodes, "0-9,10-14,50-54,20-24,30-39", 20, 2, "0-9,30-39"},
		// The kubelet does not come to an end here: two nodes have the CPUs that are left over, but not in groups.
		"odd numbers of CPUs": {fourNodes, "0-4,10-14,20-23,30-31", 14, 2, "0-3,10-13,20-23,30-31"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tt.topology.distribute(set(t, tt.available), tt.n, tt.group)
			text := got.String()
			if err != nil {
				text = err.Error()
			}
			if text != tt.want {
				t.Errorf("distribute(%s, %d, %d) = %q, want %q", tt.available, tt.n, tt.group, text, tt.want)
			}
		})
	}
}

func TestTheOptionsSayHowCPUsAreTaken(t *testing.T) {
	m := machine(2, 1, 3, 2)
	for want, o := range map[string]options.CPUManager{
		"0-2,4,6-8":  {},
		"0-1,4-7,10": {Distribute: true},
	} {
		got, err := policy{topology: m, options: o}.take(set(t, "0-2,4-8,10-11"), 7)
		if err != nil || !got.Equals(set(t, want)) {
			t.Errorf("%+v: %v, %v, want %s", o, got, err, want)
		}
	}
}
