package program

import (
	"bytes"
	"context"
	"errors"
	"io"
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

func TestLargeOutputIsPassedOnAsItComes(t *testing.T) {
	var out bytes.Buffer
	if complaint, err := sh("head -c 10000000 /dev/zero; echo but >&2; exit 3").Stream(t.Context(), &out); err == nil || err.Error() != "exit status 3" || out.Len() != 10000000 || string(complaint) != "but\n" {
		t.Errorf("%d bytes, %q, %v", out.Len(), complaint, err)
	}
	out.Reset()
	if _, err := sh("cat").Stream(t.Context(), &out); err != nil || out.String() != "asked" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if _, err := sh("yes >&2").Stream(t.Context(), io.Discard); err == nil || err.Error() != "more than 65536 bytes of complaints" {
		t.Errorf("complaints without end: %v", err)
	}
	if _, err := (Program{Path: "/nowhere"}).Stream(t.Context(), io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// full takes some bytes and no more.
type full struct{ left int }

var errFull = errors.New("the client has gone")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAProgramThatNobodyReadsIsEnded(t *testing.T) {
	for name, script := range map[string]string{"that writes on": "yes", "that hangs": "yes | head -c 1000000; sleep 1000", "whose child writes on": "yes & sleep 1000"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := sh(script).Stream(t.Context(), &full{left: 100000}); !errors.Is(err, errFull) {
				t.Errorf("%v, want the client's error", err)
			}
		})
	}
	cause := errors.New("it took too long")
	for name, script := range map[string]string{"in time": "sleep 1000", "in time, with a child": "sleep 1000 & wait"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, cause)
			defer cancel()
			if _, err := sh(script).Stream(ctx, io.Discard); !errors.Is(err, cause) {
				t.Errorf("%v, want the cause", err)
			}
		})
	}
}
