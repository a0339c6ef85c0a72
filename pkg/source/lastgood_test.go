package source

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

func bad([]byte) bool { return false }

func TestADamagedLastGoodManifestIsMovedAside(t *testing.T) {
	const path = "/etc/manifests/a.yaml"
	place := func(t *testing.T) string {
		g := &lastGood{dir: filepath.Join(t.TempDir(), "kept")}
		g.keep(path, []byte("good"))
		g.flush()
		if string(g.load(path, bad)) != "good" {
			t.Fatal("it was not kept")
		}
		return g.name(path)
	}
	damage.NoFile(t, place, func(t *testing.T, file string) {
		g := &lastGood{dir: filepath.Dir(file)}
		g.load(path, bad)
		g.prune([]string{path})
		g.keep(path, []byte("good"))
		g.flush()
		if got := string(g.load(path, bad)); got != "good" {
			t.Errorf("kept again: %.20q", got)
		}
	})
	file := place(t)
	dir := filepath.Dir(file)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g := &lastGood{dir: dir}
	for _, text := range []string{"", " ", "{{{ %%%", string(whole[:len(whole)-1]), string(whole[:9]), string(whole) + "x"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := g.load(path, bad); got != nil {
			t.Errorf("%q was loaded of %q", got, text)
		}
		damage.MovedAside(t, file)
		for _, aside := range durable.Aside(file) {
			if err := os.Remove(aside); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Of an agent that did not seal them.
	if err := os.WriteFile(file, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := g.load(path, func(text []byte) bool { return string(text) == "good" }); string(got) != "good" {
		t.Errorf("%q was loaded", got)
	}
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
	if string(g.load(path, bad)) != "good" {
		t.Error("nothing is kept where a file was in the place of the directory")
	}
}
