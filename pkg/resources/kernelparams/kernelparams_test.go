package kernelparams

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// proc makes a directory with parameters in place of /proc/sys.
func proc(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func fresh() map[string]string {
	return map[string]string{
		"vm/overcommit_memory": "0\n", "vm/panic_on_oom": "0\n", "kernel/panic": "0\n", "kernel/panic_on_oops": "1\n",
		"kernel/keys/root_maxkeys": "1000000\n", "kernel/keys/root_maxbytes": "20000\n",
	}
}

func TestParametersBecomeTheKubelets(t *testing.T) {
	dir := proc(t, fresh())
	if err := Check(dir); err == nil || strings.Count(err.Error(), "\n") != 2 ||
		!strings.Contains(err.Error(), "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0") {
		t.Errorf("before: %v", err)
	}
	for range 2 {
		if err := Set(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(dir); err != nil {
		t.Errorf("after: %v", err)
	}
	for name, want := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0\n", "kernel/panic": "10", "kernel/panic_on_oops": "1\n",
		"kernel/keys/root_maxkeys": "1000000\n", "kernel/keys/root_maxbytes": "25000000",
	} {
		// What was right is not written again; the kernel would take what follows as the rest of a line.
		if got, _ := os.ReadFile(filepath.Join(dir, name)); strings.TrimRight(string(got), "\n0") != strings.TrimRight(want, "\n0") {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestParametersThatAreMissingAreNone(t *testing.T) {
	content := fresh()
	delete(content, "kernel/keys/root_maxbytes") // a kernel without keys
	dir := proc(t, content)
	if err := errors.Join(Set(dir), Check(dir)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kernel/keys/root_maxbytes")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the missing parameter: %v", err)
	}
}

func TestParametersThatTheHostKeepsAreNamedAndTheOthersSet(t *testing.T) {
	content := fresh()
	content["kernel/panic"] = "many"
	dir := proc(t, content)
	readOnly := filepath.Join(dir, "vm")
	if err := unix.Mount(readOnly, readOnly, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	defer unix.Unmount(readOnly, unix.MNT_DETACH)
	if err := unix.Mount("", readOnly, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	err := Set(dir)
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "overcommit_memory") || !strings.Contains(err.Error(), "kernel/panic: ") {
		t.Errorf("%v", err)
	}
	if different, _ := Differences(dir); len(different) != 1 || different[0].Name != "vm/overcommit_memory" {
		t.Errorf("still different: %v", different)
	}
}
