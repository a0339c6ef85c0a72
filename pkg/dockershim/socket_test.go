package dockershim

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListenReplacesOnlyASocketThatIsDead(t *testing.T) {
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "new", "cri.sock")
	first, err := listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket is %v, %v; want mode 0660", info, err)
	}
	if _, err := listen(t.Context(), "unix://"+path); err == nil || !strings.Contains(err.Error(), "another process does") {
		t.Errorf("second listener: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after SIGKILL
	first.Close()
	again, err := listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	again.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), "unix://"+path); err == nil {
		t.Error("a file was replaced by a socket")
	}
	for _, endpoint := range []string{"", "tcp://127.0.0.1:1", "unix://relative", "/var/run/x.sock"} {
		if _, err := listen(t.Context(), endpoint); err == nil {
			t.Errorf("listens on %q", endpoint)
		}
	}
}
