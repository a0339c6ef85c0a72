package source

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

func named(name string) manifest.Content {
	return manifest.Content{Objects: []metav1.Object{&v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}}}}
}

// loaded is the name of what was kept, "" if nothing was.
func loaded(g *lastGood, path string) string {
	c, ok := g.content(manifest.Origin{From: path, Objects: true}, "n")
	if !ok || len(c.Objects) != 1 {
		return ""
	}
	return c.Objects[0].GetName()
}

func TestADamagedLastGoodManifestIsMovedAside(t *testing.T) {
	const path = "/etc/manifests/a.yaml"
	place := func(t *testing.T) string {
		g := &lastGood{dir: filepath.Join(t.TempDir(), "kept")}
		g.keep(path, named("good"), true)
		g.flush()
		if loaded(g, path) != "good" {
			t.Fatal("it was not kept")
		}
		return g.name(path)
	}
	damage.NoFile(t, place, func(t *testing.T, file string) {
		g := &lastGood{dir: filepath.Dir(file)}
		loaded(g, path)
		g.prune([]string{path})
		g.keep(path, named("good"), true)
		g.flush()
		if got := loaded(g, path); got != "good" {
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
		if got := loaded(g, path); got != "" {
			t.Errorf("%q was loaded of %q", got, text)
		}
		damage.MovedAside(t, file)
		for _, aside := range durable.Aside(file) {
			if err := os.Remove(aside); err != nil {
				t.Fatal(err)
			}
		}
	}
	// An agent before this kept the text.
	if err := os.WriteFile(file, []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: older}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := loaded(g, path); got != "older" {
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
	g.keep(path, named("good"), true)
	g.flush()
	if loaded(g, path) != "good" {
		t.Error("nothing is kept where a file was in the place of the directory")
	}
}

// What is kept is what was wanted, to the last field.
func TestWhatIsKeptIsWhatWasWanted(t *testing.T) {
	text := podManifest("web", "    resources: {limits: {cpu: 1000m, memory: 1024Mi}}") +
		"---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n" +
		"---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {name: v}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /v}}\n"
	docs := manifest.Origin{Source: "file", Node: node, From: "/f", Objects: true}.Read([]byte(text))
	if problems := manifest.Problems(docs, "", ""); len(problems) > 0 {
		t.Fatal(problems)
	}
	want := manifest.KeepFailed(manifest.Content{}, docs, node)
	encoded, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(encoded)
	if err != nil || len(got.Pods) != 1 || len(got.Objects) != 2 || !equality.Semantic.DeepEqual(want, got) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// A copy that the disk cannot give now may be whole: what a partly bad manifest gives does not replace it.
func TestACopyThatCannotBeReadIsNotReplaced(t *testing.T) {
	const path = "/etc/manifests/a.yaml"
	g := &lastGood{dir: filepath.Join(t.TempDir(), "kept")}
	g.keep(path, named("good"), true)
	g.flush()
	other := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(other, g.name(path), "", unix.MS_BIND, ""); err != nil { // no file of ours
		t.Skipf("this environment cannot mount: %v", err)
	}
	unmount := sync.OnceFunc(func() { _ = unix.Unmount(g.name(path), unix.MNT_DETACH) })
	t.Cleanup(unmount)
	if got := loaded(g, path); got != "" {
		t.Fatalf("%q was loaded", got)
	}
	g.keep(path, manifest.Content{}, false)
	unmount()
	g.flush()
	if got := loaded(g, path); got != "good" {
		t.Errorf("%q is left", got)
	}
	g.keep(path, named("new"), true)
	g.flush()
	if got := loaded(g, path); got != "new" {
		t.Errorf("%q is left", got)
	}
	g.keep(path, named("newer"), false) // the copy is not the one that could not be read
	g.flush()
	if got := loaded(g, path); got != "newer" {
		t.Errorf("%q is left", got)
	}
}
