package dockershim

import (
	"errors"
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
	first.(socket).UnixListener.Close() // as after SIGKILL
	again, err := listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	again.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left after Close")
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), "unix://"+path); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("beside the file there is %v, %v", entries, err)
	}
	for _, endpoint := range []string{"", "tcp://127.0.0.1:1", "unix://relative", "/var/run/x.sock"} {
		if _, err := listen(t.Context(), endpoint); err == nil {
			t.Errorf("listens on %q", endpoint)
		}
	}
}

// Whoever looks at the directory while the socket is made never sees one that it could connect
// to, and a socket that was moved is as good as another.
func TestTheSocketIsNeverThereWithAnotherMode(t *testing.T) {
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// As long as a path of a socket can be.
	path := filepath.Join(dir, strings.Repeat("x", 107-len(dir)-1))
	if err := errors.Join(os.Mkdir(path+".new", 0o777), os.WriteFile(filepath.Join(path+".new", "s"), nil, 0o666)); err != nil {
		t.Fatal(err) // what a crash has left
	}
	stop, seen := make(chan struct{}), make(chan string, 1)
	go func() {
		defer close(seen)
		for {
			if info, err := os.Lstat(path); err == nil && info.Mode() != os.ModeSocket|0o660 {
				seen <- info.Mode().String()
				return
			}
			if info, err := os.Lstat(path + ".new"); err == nil && info.Mode().Perm() != 0o700 {
				if inside, err := os.Lstat(filepath.Join(path+".new", "s")); err == nil && inside.Mode().Type() == os.ModeSocket {
					seen <- info.Mode().String()
					return
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 200 {
		l, err := listen(t.Context(), "unix://"+path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
	}
	close(stop)
	for mode := range seen {
		t.Errorf("seen with mode %s", mode)
	}
}
