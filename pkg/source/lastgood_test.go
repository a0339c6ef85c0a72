package source

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

func TestADamagedLastGoodManifestIsMovedAside(t *testing.T) {
	const path = "/etc/manifests/a.yaml"
	place := func(t *testing.T) string {
		g := &lastGood{dir: filepath.Join(t.TempDir(), "kept")}
		g.keep(path, []byte("good"))
		g.flush()
		if string(g.load(path)) != "good" {
			t.Fatal("it was not kept")
		}
		return g.name(path)
	}
	damage.NoFile(t, place, func(t *testing.T, file string) {
		g := &lastGood{dir: filepath.Dir(file)}
		g.load(path)
		g.prune([]string{path})
		g.keep(path, []byte("good"))
		g.flush()
		if got := string(g.load(path)); got != "good" {
			t.Errorf("kept again: %.20q", got)
		}
	})
	file := place(t)
	dir := filepath.Dir(file)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g := &lastGood{dir: dir}
	if g.load(path) != nil {
		t.Error("an empty file was loaded")
	}
	damage.MovedAside(t, file)
	g.prune(nil)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("of a manifest that is gone, %v is left (%v)", left, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g.keep(path, []byte("good"))
	g.flush()
	if string(g.load(path)) != "good" {
		t.Error("nothing is kept where a file was in the place of the directory")
	}
}
