package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// On cgroups of the machine that this test makes and removes.
func TestAProcessEntersACgroupThatIsMadeForIt(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	k := newKernel(Layout{})
	path := fmt.Sprintf("/mini-kubelet-test-%d.slice/agent", os.Getpid())
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
		for _, hierarchy := range k.hierarchies() {
			_ = os.Remove(filepath.Join(hierarchy, path))
			_ = os.Remove(filepath.Join(hierarchy, filepath.Dir(path)))
		}
	})
	pid := sleep.Process.Pid
	before, err := k.cgroupOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := Enter(before, pid); err != nil && before != "/" {
		t.Errorf("where it is already: %v", err)
	}
	if err := Enter(path, pid); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, controller := range []string{"memory", "cpu"} {
		if !k.v2 && !strings.Contains(string(text), controller) {
			continue
		}
		inside := false
		for l := range strings.Lines(string(text)) {
			inside = inside || (k.v2 || strings.Contains(l, controller)) && strings.HasSuffix(strings.TrimSpace(l), path)
		}
		if !inside {
			t.Errorf("%s: it is not in %s:\n%s", controller, path, text)
		}
	}
	if err := Enter(path, pid); err != nil {
		t.Errorf("again: %v", err)
	}
	for _, wrong := range []string{"/", "/a/../b"} {
		if err := Enter(wrong, pid); err == nil {
			t.Errorf("%s: no error", wrong)
		}
	}
}
