package testrun

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inotifyVariable tells a test that it runs where there is no inotify instance.
const inotifyVariable = "MINI_KUBELET_TEST_NO_INOTIFY"

// WithoutInotify runs the test that calls it once more, as a process whose user has no
// inotify instance left, as when a container has taken all of root's. There it returns
// true; to its first caller it returns false, when that process has ended.
func WithoutInotify(t *testing.T) bool {
	t.Helper()
	const limit = "/proc/sys/user/max_inotify_instances" // of the user namespace
	if os.Getenv(inotifyVariable) != "" {
		if err := os.WriteFile(limit, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("mapping root needs root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), inotifyVariable+"=1")
	self := []syscall.SysProcIDMap{{Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: self, GidMappings: self}
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC)) {
		t.Skipf("this machine makes no user namespace: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}
