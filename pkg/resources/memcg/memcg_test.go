package memcg

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// group makes a cgroup in files of a directory.
func group(t *testing.T, v2 bool, files map[string]string) Group {
	t.Helper()
	g := Group{t.TempDir(), v2}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestReadBothVersions(t *testing.T) {
	v1 := func(limit string) map[string]string {
		return map[string]string{"memory.usage_in_bytes": "1000\n", "memory.limit_in_bytes": limit, "memory.stat": "inactive_file 1\ntotal_inactive_file 300\n"}
	}
	v2 := func(limit string) map[string]string {
		return map[string]string{"memory.current": "1000\n", "memory.max": limit, "memory.stat": "anon 2\ninactive_file 300\n"}
	}
	for name, tc := range map[string]struct {
		g     Group
		limit int64
		bad   bool
	}{
		"v1":             {g: group(t, false, v1("4096\n")), limit: 4096},
		"v1, no limit":   {g: group(t, false, v1("9223372036854771712\n"))},
		"v2":             {g: group(t, true, v2("4096\n")), limit: 4096},
		"v2, no limit":   {g: group(t, true, v2("max\n"))},
		"nothing":        {g: group(t, true, nil), bad: true},
		"the other kind": {g: group(t, true, v1("1")), bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := tc.g.Read()
			if (err != nil) != tc.bad {
				t.Fatal(err)
			}
			if want := (Usage{Used: 1000, InactiveFile: 300, Limit: tc.limit}); !tc.bad && (u != want || u.WorkingSet() != 700) {
				t.Errorf("%+v, want %+v", u, want)
			}
		})
	}
}

// More than opening and closing cannot be tried without starving the machine.
func TestTheKernelIsAskedForStalls(t *testing.T) {
	n, err := Group{mountPoint, true}.Notify(0, func() {})
	if err != nil {
		t.Skipf("the kernel keeps no pressure, or its file system is read-only: %v", err)
	}
	n.Close()
	if n, err := (Group{t.TempDir(), true}).Notify(0, func() {}); err == nil {
		n.Close()
		t.Error("no error for a cgroup that is none")
	}
}

func TestOnlyEventsOfTheGroupItselfAreWatched(t *testing.T) {
	for name, tc := range map[string]struct {
		files []string
		want  string
	}{
		"own events":       {[]string{"memory.events", "memory.events.local"}, "memory.events.local"},
		"an older kernel":  {[]string{"memory.events"}, "memory.events"},
		"no cgroup at all": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for _, f := range tc.files {
				files[f] = "max 0\n"
			}
			var n Notifier
			err := group(t, true, files).open(&n, 0)
			defer n.close()
			got := ""
			for _, f := range n.files {
				got += filepath.Base(f.Name())
			}
			if got != tc.want || (err != nil) != (tc.want == "") {
				t.Errorf("watches %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// The kernel tells when a process of a cgroup takes more than the bound.
func TestTheKernelTellsOfAThreshold(t *testing.T) {
	if Of(Root).v2 {
		t.Skip("this machine has cgroup v2, which knows no thresholds")
	}
	g := Of("mini-kubelet-memcg-test-" + strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Skipf("this host lets nobody make memory cgroups: %v", err)
	}
	t.Cleanup(func() {
		// The kernel may need a moment to let go of what has ended.
		testrun.Eventually(t, "the cgroup is removed", func() bool { return unix.Rmdir(g.dir) == nil })
	})
	told := make(chan struct{}, 8)
	n, err := g.Notify(64<<20, func() { told <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	charge(t, g, 4<<20)
	select {
	case <-told:
		t.Error("told below the bound")
	default:
	}
	charge(t, g, 128<<20)
	select {
	case <-told:
	case <-time.After(testrun.Patience):
		t.Error("nothing told beyond the bound")
	}
}

// charge has a process in the cgroup take that much memory, and waits until it has ended.
func charge(t *testing.T, g Group, bytes int) {
	t.Helper()
	script := `echo $$ >"$1" && head -c "$2" /dev/zero | tail -c "$2" >/dev/null`
	if out, err := exec.Command("sh", "-c", script, "sh", filepath.Join(g.dir, "cgroup.procs"), strconv.Itoa(bytes)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
