package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/criconfig"
)

func TestGarbage(t *testing.T) {
	now := time.Unix(100000, 0)
	at := func(minutes int) time.Time { return now.Add(-time.Duration(minutes) * time.Minute) }
	dead := func(id, name, sandbox string, minutes int) Container {
		return Container{ID: id, Name: name, SandboxID: sandbox, State: StateExited, CreatedAt: at(minutes)}
	}
	one := Policy{PerContainer: 1, Total: -1}
	for name, tc := range map[string]struct {
		policy Policy
		pods   []*Pod
		wanted bool
		want   string
	}{
		"one dead one is kept": {one, []*Pod{{UID: "u", Containers: []Container{dead("a", "c", "s", 1)}, Sandboxes: []Sandbox{{ID: "s", State: StateRunning}}}}, true, ""},
		"older ones go": {one, []*Pod{{UID: "u", Containers: []Container{{ID: "r", Name: "c", State: StateRunning, CreatedAt: at(0)}, dead("a", "c", "s", 1), dead("b", "c", "s", 2), dead("d", "c", "s", 3)},
			Sandboxes: []Sandbox{{ID: "s", State: StateRunning}}}}, true, "b d"},
		"another container's count by themselves": {one, []*Pod{{UID: "u", Containers: []Container{dead("a", "c1", "s", 1), dead("b", "c2", "s", 2)}, Sandboxes: []Sandbox{{ID: "s", State: StateRunning}}}}, true, ""},
		"young ones stay":                         {Policy{MinAge: 10 * time.Minute, PerContainer: 0, Total: -1}, []*Pod{{UID: "u", Containers: []Container{dead("a", "c", "s", 1), dead("b", "c", "s", 20)}, Sandboxes: []Sandbox{{ID: "s", State: StateRunning}}}}, true, "b"},
		"total, oldest first":                     {Policy{PerContainer: -1, Total: 1}, []*Pod{{UID: "u", Containers: []Container{dead("a", "c", "s", 1), dead("b", "c", "s", 2)}, Sandboxes: []Sandbox{{ID: "s", State: StateRunning}}}}, true, "b"},
		"being started right now":                 {Policy{PerContainer: 0, Total: -1}, []*Pod{{UID: "u", Containers: []Container{{ID: "a", Name: "c", State: StateCreated, CreatedAt: at(1)}}}}, true, ""},
		"left behind before its start":            {Policy{PerContainer: 0, Total: -1}, []*Pod{{UID: "u", Containers: []Container{{ID: "a", Name: "c", State: StateCreated, CreatedAt: at(6)}}}}, true, "a"},
		"old sandbox goes, newest stays":          {one, []*Pod{{UID: "u", Sandboxes: []Sandbox{{ID: "s2", State: StateExited}, {ID: "s1", State: StateExited}}}}, true, "s1"},
		"old sandbox with a dead container stays": {one, []*Pod{{UID: "u", Containers: []Container{dead("a", "c", "s1", 1)}, Sandboxes: []Sandbox{{ID: "s2", State: StateRunning}, {ID: "s1", State: StateExited}}}}, true, ""},
		"pod that is not wanted any more":         {one, []*Pod{{UID: "u", Sandboxes: []Sandbox{{ID: "s", State: StateExited}}}}, false, "s"},
		"running sandbox stays":                   {one, []*Pod{{UID: "u", Sandboxes: []Sandbox{{ID: "s", State: StateRunning}}}}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := garbage(tc.pods, tc.policy, func(types.UID) bool { return tc.wanted }, now)
			var ids []string
			for _, c := range g.containers {
				ids = append(ids, c.ID)
			}
			for _, s := range g.sandboxes {
				ids = append(ids, s.ID)
			}
			slices.Sort(ids)
			if got := strings.Join(ids, " "); got != tc.want {
				t.Errorf("removed %q, want %q", got, tc.want)
			}
		})
	}
}

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
	long := write("long", strings.Repeat("x", 5000))
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
	const file, fallback = v1.TerminationMessageReadFile, v1.TerminationMessageFallbackToLogsOnError
	for name, tc := range map[string]struct {
		path, log string
		policy    v1.TerminationMessagePolicy
		code      int32
		want      func(string) bool
	}{
		"file":                      {said, log, file, 1, func(s string) bool { return s == "so long" }},
		"file is cut":               {long, log, file, 1, func(s string) bool { return len(s) == 4096 }},
		"no file":                   {filepath.Join(dir, "none"), log, file, 1, func(s string) bool { return s == "" }},
		"a link is not followed":    {link, log, file, 1, func(s string) bool { return s == "" }},
		"empty file, no fallback":   {empty, log, file, 1, func(s string) bool { return s == "" }},
		"empty file, fallback":      {empty, log, fallback, 1, func(s string) bool { return s == "first\npartial\n" }},
		"file goes before fallback": {said, log, fallback, 1, func(s string) bool { return s == "so long" }},
		"no fallback for success":   {empty, log, fallback, 0, func(s string) bool { return s == "" }},
		"80 lines at most":          {empty, manyLines, fallback, 1, func(s string) bool { return strings.Count(s, "\n") == 80 && len(s) <= 2048 }},
	} {
		t.Run(name, func(t *testing.T) {
			status := &cri.ContainerStatus{ExitCode: tc.code, LogPath: tc.log, Mounts: []*cri.Mount{{ContainerPath: "/dev/termination-log", HostPath: tc.path}}}
			recorded := criconfig.Recorded{TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: tc.policy}
			if got := terminationMessage(status, recorded); !tc.want(got) {
				t.Errorf("message %q", got)
			}
		})
	}
}
