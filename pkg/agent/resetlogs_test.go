package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestResetLogsRemovesWhatIsOurs(t *testing.T) {
	logs, links, elsewhere := t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{"ns_web_ours/c", "ns_web_theirs/c", "ours", "ns_ours"} {
		if err := os.MkdirAll(filepath.Join(logs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"ours.log": logs + "/ns_web_ours/c/0.log", "theirs.log": logs + "/ns_web_theirs/c/0.log", "elsewhere.log": elsewhere, "beside.log": logs + "/ns_web_ours-not/0.log",
	} {
		if err := os.Symlink(target, filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(links, "file.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(elsewhere, "precious"), nil, 0o600), os.Symlink(elsewhere, filepath.Join(logs, "ns_linked_ours"))); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := resetLogs(t.Context(), logs, links, func(uid types.UID) bool { return uid == "ours" }, &out); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string][]string{
		logs: {"ns_ours", "ns_web_theirs", "ours"}, links: {"beside.log", "elsewhere.log", "file.log", "theirs.log"}, elsewhere: {"precious"},
	} {
		entries, err := os.ReadDir(dir)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("%s has %q, %v; want %q", dir, names, err, want)
		}
	}
	if !strings.Contains(out.String(), "ns_web_ours") {
		t.Errorf("it says %q", out.String())
	}
}
