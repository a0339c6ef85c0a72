package integration

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestNothingIsDeletedThroughAMount: what is mounted in a pod's log directory, or in the state of
// agent and dockershim, outlives the pod's removal and a reset.
func TestNothingIsDeletedThroughAMount(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	logs, err := filepath.Glob(filepath.Join(a.Dir, "logs", "*"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("log directories %q, %v", logs, err)
	}
	var precious []string
	for _, dir := range []string{logs[0], filepath.Join(a.Dir, "root", "mini-kubelet"), filepath.Join(a.Dir, "shim", "sandbox"), filepath.Join(a.Dir, "shim", "logs"), filepath.Join(a.Dir, "shim", "network")} {
		source, at := t.TempDir(), filepath.Join(dir, "mounted")
		file := filepath.Join(source, "precious")
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(source, at, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("cannot mount: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
		precious = append(precious, file)
	}
	a.Remove("web.yaml")
	waitLog(t, a, "something is mounted there") // the last step of its removal, which goes no further
	a.Interrupt()
	// It says what it could not remove.
	if _, _, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...); err == nil {
		t.Error("the reset says nothing of what is mounted in the agent's state")
	}
	for _, file := range precious {
		if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
			t.Errorf("%s: %q, %v", file, text, err)
		}
	}
}
