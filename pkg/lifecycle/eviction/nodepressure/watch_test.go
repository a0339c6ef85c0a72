package nodepressure

import "testing"

func TestBoundFor(t *testing.T) {
	for name, tt := range map[string]struct {
		used int64
		o    observation
		want int64
	}{
		// Of a limit of 1000, 400 are used, 100 of them inactive: at 1000 used, 900 of them a working set, 100 are left.
		"the pods' cgroup": {400, observation{available: 700, capacity: 1000}, 1000},
		// The kernel and huge pages have 200 of the machine, which are no part of the root's usage.
		"the root":                     {400, observation{available: 500, capacity: 1000}, 800},
		"nothing beyond the threshold": {900, observation{available: 100, capacity: 1000}, 900},
	} {
		if got := boundFor(tt.used, tt.o, 100); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
