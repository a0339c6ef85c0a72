package ownsocket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestWhoIsAdmitted(t *testing.T) {
	root, user := peer{uid: 0, admin: true}, peer{uid: 1000}
	for _, tt := range []struct {
		name       string
		own, other peer
		want       bool
	}{
		{"root", root, root, true},
		{"a user", root, user, false},
		{"root of a container", root, peer{uid: 0}, false},
		{"a user with capabilities", root, peer{uid: 1000, admin: true}, false},
		{"the agent's own user", user, user, true},
		{"another user", user, peer{uid: 1001}, false},
		{"root, where the agent is a user", user, root, true},
		{"root with little, where the agent has no more", peer{uid: 0}, peer{uid: 0}, true},
	} {
		if got := tt.own.admits(tt.other); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// listen opens the socket and answers each connection with a byte.
func listen(t *testing.T, path string) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Accept(t, l, func(c net.Conn) {
		_, _ = c.Write([]byte("y"))
		c.Close()
	})
	return l
}

func answers(t *testing.T, path string) error {
	c, err := Dial(t.Context(), path)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Read(make([]byte, 1))
	return err
}

func TestALongPathAndTheModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("long", 40), "api", "agent.sock")
	l := listen(t, path)
	if err := answers(t, path); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, fi.Mode(), err, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWhatIsAtThePath(t *testing.T) {
	place := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "api")
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "agent.sock")
	}
	t.Run("a socket whose process was killed", func(t *testing.T) {
		path := place(t)
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		stale.Close()
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), ".agent.sock.new"), nil, 0o600); err != nil { // of one killed at its start
			t.Fatal(err)
		}
		listen(t, path)
		if err := answers(t, path); err != nil {
			t.Error(err)
		}
	})
	t.Run("a socket that is served", func(t *testing.T) {
		path := place(t)
		listen(t, path)
		if _, err := Listen(t.Context(), path); !errors.Is(err, errInUse) {
			t.Errorf("%v, want %v", err, errInUse)
		}
		if err := answers(t, path); err != nil {
			t.Errorf("after that the first one does not answer: %v", err)
		}
	})
	t.Run("a file", func(t *testing.T) {
		path := place(t)
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := Listen(t.Context(), path); err == nil {
			l.Close()
			t.Error("a file was replaced")
		}
	})
	t.Run("a directory that is a link", func(t *testing.T) {
		path := place(t)
		link := filepath.Dir(path) + "-link"
		if err := os.Symlink(filepath.Dir(path), link); err != nil {
			t.Fatal(err)
		}
		if l, err := Listen(t.Context(), filepath.Join(link, "agent.sock")); err == nil {
			l.Close()
			t.Error("a link was followed")
		}
	})
}

// TestOthersAreTurnedAway connects as processes that the modes alone would let in.
func TestOthersAreTurnedAway(t *testing.T) {
	if path := os.Getenv("OWNSOCKET_DIAL"); path != "" {
		if err := answers(t, path); err != nil {
			t.Fatalf("not served: %v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	dir, err := os.MkdirTemp("", "ownsocket-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "api", "agent.sock")
	var logged strings.Builder // read once all have been answered
	defer klog.CaptureState().Restore()
	klog.LogToStderr(false)
	klog.SetOutput(&logged)
	began := time.Now()
	listen(t, path)
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	test := filepath.Join(dir, "test")
	if err := os.WriteFile(test, program, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{dir: 0o755, filepath.Dir(path): 0o755, path: 0o666} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	justRoot := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	for _, tt := range []struct {
		name    string
		attr    *syscall.SysProcAttr
		drop    bool
		allowed bool
	}{
		{"root", &syscall.SysProcAttr{}, false, true},
		{"nobody", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, false, false},
		{"root without capabilities", &syscall.SysProcAttr{}, true, false},
		{"root without capabilities who is root of a user namespace", &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: justRoot, GidMappings: justRoot,
		}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{test, "-test.run=^TestOthersAreTurnedAway$", "-test.v"}
			if tt.drop {
				setpriv, err := exec.LookPath("setpriv")
				if err != nil {
					t.Skip("needs setpriv")
				}
				args = append([]string{setpriv, "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"}, args...)
			}
			cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
			cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, []string{"OWNSOCKET_DIAL=" + path}, tt.attr
			out, err := cmd.CombinedOutput()
			if exit := (*exec.ExitError)(nil); tt.attr.Cloneflags != 0 && err != nil && !errors.As(err, &exit) {
				t.Skipf("no user namespace can be made here: %v", err)
			}
			if (err == nil) != tt.allowed {
				t.Errorf("allowed %v, want %v: %v\n%s", err == nil, tt.allowed, err, out)
			}
			if err != nil && !strings.Contains(string(out), "not served: ") {
				t.Errorf("the test failed by something else:\n%s", out)
			}
		})
	}
	klog.Flush()
	if n, most := strings.Count(logged.String(), "refused"), 1+int(time.Since(began)/time.Minute); n < 1 || n > most {
		t.Errorf("%d refusals were logged, want the first, and %d at most:\n%s", n, most, logged.String())
	}
}

func TestAProcessThatHasEndedIsNobody(t *testing.T) {
	if _, err := isAdmin(0); err == nil {
		t.Error("process 0 was found")
	}
	if own, err := self(); err != nil || own.uid != uint32(unix.Geteuid()) {
		t.Errorf("self: %+v, %v", own, err)
	}
}
