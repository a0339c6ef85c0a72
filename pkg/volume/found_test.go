package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

// Another kubelet has used the root directory before: what it left stays, even after
// restarts of the agent and a reset, until the agent is given a pod with the same UID.
func TestWhatAnotherKubeletLeftIsNotRemoved(t *testing.T) {
	root := t.TempDir()
	data := func(uid string) string {
		return filepath.Join(root, "pods", uid, "volumes", "kubernetes.io~empty-dir", "v", "data")
	}
	plug := filepath.Join(root, "plugins", "kubernetes.io", "csi", "driver", "vol_data.json")
	put := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, "precious")
	}
	put(data("theirs"))
	put(data("adopted"))
	put(plug)
	start := func() *Manager {
		t.Helper()
		if err := Note(t.Context(), root, true, "lock"); err != nil {
			t.Fatal(err)
		}
		m, err := New(Config{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	there := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(filepath.Join(root, "pods"))
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("pods are %q, want %q (%v)", names, want, err)
		}
	}
	m := start()
	if err := m.SetUp(t.Context(), &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "adopted"}}); err != nil {
		t.Fatal(err)
	}
	if err := m.SetUp(t.Context(), &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "ours"}}); err != nil {
		t.Fatal(err)
	}
	// Meanwhile another kubelet was here.
	put(data("later"))
	m = start() // it knows of nothing that the one before has set up
	if err := m.Orphans(t.Context(), func(uid types.UID) bool { return uid != "ours" }); err != nil {
		t.Fatal(err)
	}
	there("later", "ours", "theirs")
	if err := Reset(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	there("later", "theirs")
	for _, path := range []string{data("theirs"), data("later"), plug} {
		if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
}

// An agent from a version without the record continues with what it has made.
func TestNoteOfARootThatAnAgentUsesAlready(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"mini-kubelet", "pods/ours"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "mini-kubelet", "claims.json"), "{}")
	if err := Note(t.Context(), root, true, "lock"); err != nil {
		t.Fatal(err)
	}
	if !Owns(root, "ours") {
		t.Error("its pod is not ours any more")
	}
}

// Disks that another kubelet has mounted since stay mounted: nobody knows whose they are.
func TestResetLeavesSharedDisksToAnotherKubelet(t *testing.T) {
	root := t.TempDir()
	if err := Note(t.Context(), root, true, "lock"); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(root, "plugins", "kubernetes.io", "csi", "driver", "vol_data.json")
	pod := filepath.Join(root, "pods", "theirs")
	for _, dir := range []string{filepath.Dir(disk), pod} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, disk, "precious")
	if err := Reset(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if text := read(t, disk); text != "precious" {
		t.Errorf("it holds %q", text)
	}
	if err := os.Remove(pod); err != nil {
		t.Fatal(err)
	}
	if err := Reset(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "plugins", "kubernetes.io")); !os.IsNotExist(err) {
		t.Errorf("with no other kubelet: %v, want it gone", err)
	}
}

// An agent that dies, or finds the disk full, before its first record has made nothing.
func TestNoteAfterAFirstOneThatFailed(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"mini-kubelet", "pods/theirs"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "mini-kubelet", "found.json.new"), "{")
	if err := Note(t.Context(), root, true, "lock"); err != nil {
		t.Fatal(err)
	}
	if found, err := ReadFound(root); err != nil || !found.Root || found.Has("mini-kubelet") || Owns(root, "theirs") {
		t.Errorf("found %+v, %v; theirs is ours: %v", found, err, Owns(root, "theirs"))
	}
}

// noted is a root in which an agent has the pod "ours", and others had "theirs" and things
// of their own before, and "later" since.
func noted(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"pods/theirs", "plugins/kubernetes.io/csi"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := Note(t.Context(), root, true, "lock"); err != nil {
		t.Fatal(err)
	}
	setUp(t, newManager(t, Config{Root: root}), &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "ours"}})
	if err := os.MkdirAll(filepath.Join(root, "pods/later/data"), 0o700); err != nil {
		t.Fatal(err)
	}
	return root
}

// onlyOursGoes resets the root: what is not provably ours stays.
func onlyOursGoes(t *testing.T, root string) {
	t.Helper()
	for range 2 { // the second finds the new record
		if err := Note(t.Context(), root, true, "lock"); err != nil {
			t.Fatal(err)
		}
	}
	if !Owns(root, "ours") || Owns(root, "theirs") || Owns(root, "later") {
		t.Errorf("ours: %v, theirs: %v, later: %v", Owns(root, "ours"), Owns(root, "theirs"), Owns(root, "later"))
	}
	found, err := ReadFound(root)
	if err != nil || !found.Has("") || !found.Has("plugins/kubernetes.io") || found.Has("mini-kubelet") || found.Has("lock") || found.Has("lock.damaged-1") {
		t.Errorf("found %+v, %v", found, err)
	}
	if err := Reset(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{"pods/ours": false, "pods/theirs": true, "pods/later/data": true, "plugins/kubernetes.io/csi": true} {
		if _, err := os.Lstat(filepath.Join(root, name)); os.IsNotExist(err) == stays {
			t.Errorf("after the reset %s: %v", name, err)
		}
	}
}

// Without the record of what was there first, all of it counts as found but the pods that are
// marked.
func TestADamagedRecordOfWhatWasFound(t *testing.T) {
	place := func(t *testing.T) string { return filepath.Join(noted(t), foundFile) }
	damage.Each(t, place, func(t *testing.T, file string) { onlyOursGoes(t, filepath.Dir(filepath.Dir(file))) })
	t.Run("an agent that died after it had moved it", func(t *testing.T) {
		root := noted(t)
		if err := os.Rename(filepath.Join(root, foundFile), filepath.Join(root, foundFile+".damaged-1")); err != nil {
			t.Fatal(err)
		}
		onlyOursGoes(t, root)
	})
}

// Without the marks, the pods that the agent is given are its own again, and no others.
func TestDamagedMarks(t *testing.T) {
	for _, name := range []string{ownPods, recordsDir} {
		for what, put := range map[string]func(string) error{
			"a file": func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
			"a pipe": func(p string) error { return unix.Mkfifo(p, 0o600) },
		} {
			t.Run(name+" is "+what, func(t *testing.T) {
				root := noted(t)
				path := filepath.Join(root, name)
				if err := errors.Join(os.RemoveAll(path), put(path)); err != nil {
					t.Fatal(err)
				}
				if err := Note(t.Context(), root, true, "lock"); err != nil {
					t.Fatal(err)
				}
				damage.MovedAside(t, path)
				if Owns(root, "ours") {
					t.Error("a pod is taken for ours before it was given")
				}
				setUp(t, newManager(t, Config{Root: root}), &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "ours"}})
				onlyOursGoes(t, root)
			})
		}
	}
	t.Run("an agent that died after it had moved them", func(t *testing.T) {
		root := noted(t)
		if err := os.Rename(filepath.Join(root, ownPods), filepath.Join(root, ownPods+".damaged-1")); err != nil {
			t.Fatal(err)
		}
		if err := Note(t.Context(), root, true, "lock"); err != nil {
			t.Fatal(err)
		}
		if Owns(root, "ours") || Owns(root, "theirs") || Owns(root, "later") {
			t.Error("pods are taken for ours")
		}
	})
	t.Run("a mark that is a directory", func(t *testing.T) {
		root := noted(t)
		mark := filepath.Join(root, ownPods, "ours")
		if err := errors.Join(os.Remove(mark), os.MkdirAll(filepath.Join(mark, "full"), 0o700)); err != nil {
			t.Fatal(err)
		}
		onlyOursGoes(t, root)
	})
}

// TestOddEntriesAmongThePods: whatever carries a pod's name or is in its place, a pod is set
// up and removed.
func TestOddEntriesAmongThePods(t *testing.T) {
	host := t.TempDir()
	write(t, filepath.Join(host, "vol_data.json"), "precious")
	odd := map[string]func(string) error{
		"a file":         func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
		"a pipe":         func(p string) error { return unix.Mkfifo(p, 0o600) },
		"a socket":       func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o600, 0) },
		"a link":         func(p string) error { return os.Symlink(host, p) },
		"a link to none": func(p string) error { return os.Symlink("nowhere", p) },
	}
	for what, put := range odd {
		for _, place := range []string{"pods/ours", "pods/ours/volumes", "pods/ours/claims", "pods/ours/volumes/kubernetes.io~csi", "pods/ours/volumes/kubernetes.io~csi/v", "pods/ours/volume-subpaths"} {
			t.Run(place+" is "+what, func(t *testing.T) {
				root := noted(t)
				path := filepath.Join(root, place)
				if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o700), put(path)); err != nil {
					t.Fatal(err)
				}
				m := newManager(t, Config{Root: root, CSI: noCSI{t}})
				if err := m.Orphans(t.Context(), func(types.UID) bool { return true }); err != nil {
					t.Errorf("Orphans: %v", err)
				}
				if _, err := os.Lstat(filepath.Join(root, "pods/ours")); !os.IsNotExist(err) {
					t.Errorf("left: %v", err)
				}
				if read(t, filepath.Join(host, "vol_data.json")) != "precious" {
					t.Error("what a link leads to was changed")
				}
			})
		}
	}
	for _, what := range []string{"a file", "a pipe", "a socket"} {
		root := noted(t)
		path := filepath.Join(root, "pods/ours")
		if err := errors.Join(os.RemoveAll(path), odd[what](path)); err != nil {
			t.Fatal(err)
		}
		m := newManager(t, Config{Root: root})
		setUp(t, m, &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "ours"}})
		damage.MovedAside(t, path)
		// It goes with the pod. A directory, which is never moved from there, stays.
		other := path + ".damaged-by-hand/full"
		if err := errors.Join(os.MkdirAll(other, 0o700), m.TearDown(t.Context(), "ours"), m.Orphans(t.Context(), func(types.UID) bool { return true })); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(other); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
	}
}

// What was moved aside of a pod is not taken for another kubelet's pod.
func TestResetAfterAPodsDirectoryWasMovedAside(t *testing.T) {
	root := t.TempDir()
	if err := Note(t.Context(), root, true, "lock"); err != nil {
		t.Fatal(err)
	}
	path, disk := filepath.Join(root, "pods/ours"), filepath.Join(root, "plugins/kubernetes.io/csi/driver/disk")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600), os.MkdirAll(disk, 0o700)); err != nil {
		t.Fatal(err)
	}
	setUp(t, newManager(t, Config{Root: root}), &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "ours"}})
	if err := Reset(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(path + "*")
	if _, err := os.Lstat(disk); !os.IsNotExist(err) || len(left) > 0 {
		t.Errorf("left of the pod: %v; the disk: %v", left, err)
	}
}

// noCSI is a CSI that must not be asked about what is behind a link.
type noCSI struct{ t *testing.T }

func (c noCSI) SetUp(context.Context, csi.Volume) error         { return nil }
func (c noCSI) Known(string) bool                               { return false }
func (c noCSI) Target(csi.Volume) string                        { return "" }
func (c noCSI) Clean(context.Context) error                     { return nil }
func (c noCSI) Expand(context.Context, csi.Volume, int64) error { return nil }
func (c noCSI) TearDown(_ context.Context, dir string) error {
	if real, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil && real != filepath.Dir(dir) {
		c.t.Errorf("asked about %s", dir)
	}
	return nil
}
