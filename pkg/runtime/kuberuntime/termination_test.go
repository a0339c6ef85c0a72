package kuberuntime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

func TestTerminationMessage(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	said, empty := write("said", "so long"), write("empty", "")
	long := write("long", strings.Repeat("x", 5000)+"end")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(said, link); err != nil {
		t.Fatal(err)
	}
	log := write("log", "2026-01-01T00:00:00Z stdout F first\n2026-01-01T00:00:00Z stderr P part\n2026-01-01T00:00:00Z stderr F ial\n")
	var many strings.Builder
	for i := range 100 {
		many.WriteString("2026-01-01T00:00:00Z stdout F line " + strings.Repeat("y", i%7) + "\n")
	}
	manyLines := write("many", many.String())
	head := "2026-01-01T00:00:00Z stdout F "
	longLines := write("longLines", strings.Repeat(head+strings.Repeat("z", 16<<10)+"\n", 3))
	oneLine := write("oneLine", head+strings.Repeat("z", 16<<10)+"\n")
	const file, fallback = v1.TerminationMessageReadFile, v1.TerminationMessageFallbackToLogsOnError
	for name, tc := range map[string]struct {
		path, log string
		policy    v1.TerminationMessagePolicy
		code      int32
		want      func(string) bool
	}{
		"file":                      {said, log, file, 1, func(s string) bool { return s == "so long" }},
		"file's end is read":        {long, log, file, 1, func(s string) bool { return len(s) == 4096 && strings.HasSuffix(s, "xend") }},
		"no file":                   {filepath.Join(dir, "none"), log, file, 1, func(s string) bool { return s == "" }},
		"a link is not followed":    {link, log, file, 1, func(s string) bool { return s == "" }},
		"empty file, no fallback":   {empty, log, file, 1, func(s string) bool { return s == "" }},
		"empty file, fallback":      {empty, log, fallback, 1, func(s string) bool { return s == "first\npartial\n" }},
		"file goes before fallback": {said, log, fallback, 1, func(s string) bool { return s == "so long" }},
		"no fallback for success":   {empty, log, fallback, 0, func(s string) bool { return s == "" }},
		"no fallback if never ran":  {empty, log, fallback, 128, func(s string) bool { return s == "cannot run" }},
		"2048 bytes at most":        {empty, longLines, fallback, 1, func(s string) bool { return len(s) == 2048 && strings.HasSuffix(s, "zz\n") }},
		"of one line too":           {empty, oneLine, fallback, 1, func(s string) bool { return s == strings.Repeat("z", 2047)+"\n" }},
		"80 lines at most":          {empty, manyLines, fallback, 1, func(s string) bool { return strings.Count(s, "\n") == 80 && len(s) <= 2048 }},
	} {
		t.Run(name, func(t *testing.T) {
			status := &cri.ContainerStatus{ExitCode: tc.code, LogPath: tc.log, Mounts: []*cri.Mount{{ContainerPath: "/dev/termination-log", HostPath: tc.path}}}
			if tc.code == 128 {
				status.Reason, status.Message = "ContainerCannotRun", "cannot run"
			}
			recorded := pods.Recorded{TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: tc.policy}
			if got := terminationMessage(status, recorded); !tc.want(got) {
				t.Errorf("message %q", got)
			}
		})
	}
}

func TestTerminationMessageWithTheRuntimes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "said")
	if err := os.WriteFile(file, []byte("so long"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ runtime, at, want string }{
		"both":          {"killed", "/log", "killed: so long"},
		"its own":       {"", "/log", "so long"},
		"the runtime's": {"killed", "/other", "killed"},
		"relative path": {"", "log", "so long"},
	} {
		c := &cri.ContainerStatus{Message: tc.runtime, Mounts: []*cri.Mount{{ContainerPath: "/log", HostPath: file}}}
		if got := terminationMessage(c, pods.Recorded{TerminationMessagePath: tc.at}); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestLastWordsOfFilesThatAreNone: the container can grow its termination log, a pod
// with a hostPath can put anything in its place, and in that of its log.
func TestLastWordsOfFilesThatAreNone(t *testing.T) {
	place := func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "0")
		if err := os.WriteFile(path, []byte("2026-01-01T00:00:00Z stdout F said\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		said, log := fileEnd(path, maxMessageBytes), logEnd(path)
		switch what {
		case safefiletest.Grown:
			if said != strings.Repeat("\x00", maxMessageBytes) || log != "" {
				t.Errorf("%d bytes said, log %q", len(said), log)
			}
		case safefiletest.HardLink:
			if len(said) != len(safefiletest.Precious) { // made by somebody who can read it anyway
				t.Errorf("said %q", said)
			}
		default:
			if said != "" || log != "" {
				t.Errorf("said %q, log %q", said, log)
			}
		}
	})
}
