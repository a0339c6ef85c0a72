package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAChangedFileIsSeenAndItsFieldsAreNamed(t *testing.T) {
	file := write(t, "kubelet.yaml", header+"maxPods: 20\nevictionHard: {memory.available: 100Mi}\n")
	dropIns := t.TempDir()
	running, _, err := Load([]string{"--config=" + file, "--config-dir=" + dropIns, "--pods-per-core=5"})
	if err != nil {
		t.Fatal(err)
	}
	seen := running.Fingerprint()
	step := func(name, path, text string, want ...string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		now := running.Fingerprint()
		if now == seen {
			t.Errorf("%s: not seen", name)
		}
		seen = now
		fresh, _, err := running.Reload()
		if len(want) > 0 && want[0] == "error" {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := Differences(running, fresh); !slices.Equal(got, want) {
			t.Errorf("%s: %v differ, want %v", name, got, want)
		}
	}
	if running.Fingerprint() != seen {
		t.Error("changed by itself")
	}
	step("another value", file, header+"maxPods: 30\nevictionHard: {memory.available: 100Mi}\n", "maxPods")
	step("what a flag overrides, and a field in a map", file, header+"maxPods: 20\npodsPerCore: 7\nevictionHard: {memory.available: 200Mi}\n", "evictionHard")
	step("a mistake", file, header+"maxPods: many\n", "error")
	step("as it was", file, header+"maxPods: 20\nevictionHard: {memory.available: 100Mi}\n# a comment\n")
	step("a drop-in", filepath.Join(dropIns, "10.conf"), header+"clusterDomain: example\n", "clusterDomain")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if running.Fingerprint() == seen {
		t.Error("a file that is gone is not seen")
	}
}

func TestAFileThatIsReplacedIsSeenAndAPipeIsNotReadAgain(t *testing.T) {
	file := write(t, "kubelet.yaml", header+"maxPods: 20\n")
	running, _ := mustLoad(t, "--config="+file)
	seen := running.Fingerprint()
	old, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	// Of the same size and time, by a link, as a ConfigMap's volume does it.
	other := write(t, "other.yaml", header+"maxPods: 30\n")
	if err := os.Chtimes(other, old.ModTime(), old.ModTime()); err != nil {
		t.Fatal(err)
	}
	replace := func(link string) {
		t.Helper()
		if err := os.Symlink(link, file+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	replace(other)
	if running.Fingerprint() == seen {
		t.Error("another file in its place is not seen")
	}
	fresh, _, err := running.Reload()
	if err != nil || !slices.Equal(Differences(running, fresh), []string{"maxPods"}) {
		t.Errorf("%v, %v", fresh, err)
	}
	replace("/dev/zero")
	if _, _, err := running.Reload(); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("a device in its place: %v", err)
	}
}

func TestWhatIsNotHonouredWaitsForNoRestart(t *testing.T) {
	a, _ := mustLoad(t)
	b, warnings := mustLoad(t, "--volume-plugin-dir=/plugins", "--max-pods=7")
	if got := Differences(a, b); !slices.Equal(got, []string{"maxPods"}) || len(warnings) != 1 {
		t.Errorf("%v differ, warnings %q", got, warnings)
	}
}
