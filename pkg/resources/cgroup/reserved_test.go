package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestValuesOfReservations(t *testing.T) {
	all := list("cpu", "500m", "memory", "64Mi", "pid", "100", "ephemeral-storage", "1Gi", "hugepages-2Mi", "4Mi")
	for name, tt := range map[string]struct {
		r    Reservation
		want Values
	}{
		"all": {Reservation{Limits: all}, Values{CPUShares: ref[int64](512), Memory: ref[int64](64 << 20), PIDs: ref[int64](100), HugePages: map[int64]int64{2 << 20: 4 << 20}}},
		"with memory that is kept": {Reservation{Limits: list("memory", "1Mi"), MemoryQoS: true},
			Values{Memory: ref[int64](1 << 20), HugePages: map[int64]int64{}, Unified: map[string]string{"memory.min": "1048576"}}},
		"compressible": {Reservation{Limits: all, Compressible: true, MemoryQoS: true}, Values{CPUShares: ref[int64](512)}},
		"nothing":      {Reservation{}, Values{HugePages: map[int64]int64{}}},
	} {
		if got := tt.r.values(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestNamesOfReservedCgroups(t *testing.T) {
	for _, tt := range []struct {
		text    string
		systemd bool
		want    string // the path, or the error
	}{
		{"/system", false, "/system"},
		{"a/b.slice/", false, "/a/b.slice"},
		{"/system.slice", true, "/system.slice"},
		{"system.slice", true, "/system.slice"},
		{"/a.slice/a-b_c.slice", true, "/a.slice/a-b_c.slice"},
		{"/", false, `"/" is the root of all cgroups, which has no limits`},
		{"/", true, `"/" is not the name of a cgroup`},
		{"", true, `"" is not the name of a cgroup`},
		{"/a/../b", false, `"/a/../b" is not the name of a cgroup`},
		{"-.slice", true, `"-.slice" is the root of all cgroups, which has no limits`},
	} {
		n, err := reservedName(tt.text, tt.systemd)
		got := Layout{systemd: tt.systemd}.path(n)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q, systemd %v: %s, want %s", tt.text, tt.systemd, got, tt.want)
		}
	}
}

// On cgroups of the machine that this test makes and removes.
func TestReservationsAreEnforcedOnCgroupsThatAreThere(t *testing.T) {
	if _, err := os.Stat(filepath.Join(mountPoint, "cgroup.controllers")); err == nil {
		t.Skip("this machine has cgroup v2, and this test makes cgroups of version 1")
	}
	group := fmt.Sprintf("mini-kubelet-test-%d", os.Getpid())
	dir := func(controller string) string { return filepath.Join(mountPoint, controller, group) }
	mkdir := func(controllers ...string) {
		for _, c := range controllers {
			if err := os.Mkdir(dir(c), 0o755); err != nil {
				t.Skipf("no cgroup can be made here: %v", err)
			}
			t.Cleanup(func() { os.Remove(dir(c)) })
		}
	}
	var events []string
	enforce := func(r Reservation) error {
		return EnforceReserved([]Enforcement{{r, "System"}}, false, func(kind, reason, message string) { events = append(events, kind+" "+reason+" "+message) })
	}
	r := Reservation{Cgroup: "/" + group, Limits: list("cpu", "500m", "memory", "64Mi", "pid", "100")}
	err := enforce(r)
	want := fmt.Sprintf("Failed to enforce System Reserved Cgroup Limits on %q: cgroup /%s has to be there before the agent starts, and this host lacks %s, %s, %s",
		"/"+group, group, dir("cpu"), dir("memory"), dir("pids"))
	if err == nil || !strings.HasPrefix(err.Error(), want) || len(events) != 1 || events[0] != "Warning FailedNodeAllocatableEnforcement "+err.Error() {
		t.Errorf("%v, events %q, want %s", err, events, want)
	}
	mkdir("cpu")
	compressible := r
	compressible.Compressible = true
	if err := enforce(compressible); err != nil {
		t.Fatalf("the CPU alone: %v", err)
	}
	mkdir("memory", "pids")
	if _, err := os.Stat(filepath.Join(mountPoint, "hugetlb")); err == nil {
		mkdir("hugetlb")
	}
	for range 2 {
		if err := enforce(r); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{"cpu/cpu.shares": "512", "memory/memory.limit_in_bytes": "67108864", "pids/pids.max": "100"} {
		controller, name := filepath.Split(file)
		if text, err := os.ReadFile(filepath.Join(dir(controller), name)); strings.TrimSpace(string(text)) != want {
			t.Errorf("%s is %s, want %s: %v", file, text, want, err)
		}
	}
	if !slices.Contains(events, "Normal NodeAllocatableEnforced Updated limits on system reserved cgroup /"+group) {
		t.Errorf("events %q", events)
	}
	if _, err := os.Stat(dir("freezer")); err == nil {
		t.Error("a cgroup was made")
	}
}
