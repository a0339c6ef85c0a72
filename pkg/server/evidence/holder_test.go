package evidence

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
)

func TestTheProcessThatHasAPortIsFound(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := int32(l.Addr().(*net.TCPAddr).Port)
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if got, known := holderOf(t.Context(), "/proc", "", port); !known || got != (why.Process{PID: os.Getpid(), Name: strings.TrimSpace(string(comm))}) {
		t.Errorf("%+v, %v", got, known)
	}
	for ip, want := range map[string]bool{"127.0.0.1": true, "0.0.0.0": true, "::": true, "10.1.2.3": false} {
		if _, known := holderOf(t.Context(), "/proc", ip, port); known != want {
			t.Errorf("at %s it is known: %v", ip, known)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, known := holderOf(ended, "/proc", "", port); known {
		t.Errorf("after its time: %+v", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, known := holderOf(t.Context(), "/proc", "", port); known && got.PID == os.Getpid() {
		t.Errorf("of a port that is closed: %+v", got)
	}
}

// A process calls itself as it likes, may end meanwhile, or may not be looked at.
func TestAHostileProcessIsNamedHarmlessly(t *testing.T) {
	proc := t.TempDir()
	for path, text := range map[string]string{
		"self/net/tcp": "  0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n" +
			"  1: 00000000:0051 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0\n" +
			"  2: 00000000:0052 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 0 1\n",
		"12/comm": "\x1b[2Jnginx\xff\n", "11/comm": "gone\n", "fd/comm": "no process\n",
	} {
		path = filepath.Join(proc, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(proc, "12", "fd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("socket:[4711]", filepath.Join(proc, "12", "fd", "3")); err != nil {
		t.Fatal(err)
	}
	if got, known := holderOf(t.Context(), proc, "", 0x50); !known || got != (why.Process{PID: 12, Name: "?[2Jnginx?"}) {
		t.Errorf("%+v, %v", got, known)
	}
	for _, port := range []int32{0x51, 0x52, 0x53} {
		if got, known := holderOf(t.Context(), proc, "", port); known {
			t.Errorf("%#x: %+v", port, got)
		}
	}
	if got, known := holderOf(t.Context(), filepath.Join(proc, "none"), "", 0x50); known {
		t.Errorf("without a list: %+v", got)
	}
}
