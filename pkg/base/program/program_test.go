package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sh(script string) Program {
	return Program{Path: "/bin/sh", Args: []string{"-c", script}, Stdin: []byte("asked"), MaxOutput: 1 << 16}
}

func TestWhatAProgramWrites(t *testing.T) {
	p := sh(`cat; echo " $A"; echo complaint >&2`)
	p.Env = []string{"A=a", "PATH=" + os.Getenv("PATH")}
	if out, complaint, err := p.Run(t.Context()); err != nil || string(out) != "asked a\n" || string(complaint) != "complaint\n" {
		t.Errorf("%q, %q, %v", out, complaint, err)
	}
	if out, _, err := sh("echo said; exit 3").Run(t.Context()); err == nil || err.Error() != "exit status 3" || string(out) != "said\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAProgramThatHangsIsKilledWithItsChildren(t *testing.T) {
	for name, script := range map[string]string{
		"itself":                   "sleep 1000",
		"a child with its output":  "sleep 1000 & wait",
		"a child of another group": "setsid sleep 1000 & echo $! >$PIDS; wait",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cause := errors.New("it took too long")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, cause)
			defer cancel()
			pids := filepath.Join(t.TempDir(), "pids")
			p := sh(script)
			p.Env = append(os.Environ(), "PIDS="+pids)
			done := make(chan error, 1)
			go func() { _, _, err := p.Run(ctx); done <- err }()
			select {
			case err := <-done:
				if !errors.Is(err, cause) {
					t.Errorf("%v, want the cause", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("it is still waited for")
			}
			if pid, err := os.ReadFile(pids); err == nil {
				_, _, _ = sh("kill -9 " + strings.TrimSpace(string(pid))).Run(t.Context())
			}
		})
	}
}

func TestAProgramThatEndsWellMayLeaveAChild(t *testing.T) {
	out, _, err := sh("sleep 5 & echo done").Run(t.Context())
	if err != nil || string(out) != "done\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestOutputWithoutEnd(t *testing.T) {
	for name, script := range map[string]string{"output": "yes", "complaints": "yes >&2"} {
		if out, complaint, err := sh(script).Run(t.Context()); err == nil || err.Error() != "more than 65536 bytes of output" || len(out) > 1<<16 || len(complaint) > 1<<16 {
			t.Errorf("%s: %d and %d bytes, %v", name, len(out), len(complaint), err)
		}
	}
}
