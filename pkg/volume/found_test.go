package volume

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
		if err := Note(root, true, "lock"); err != nil {
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
	if err := Note(root, true, "lock"); err != nil {
		t.Fatal(err)
	}
	if !Owns(root, "ours") {
		t.Error("its pod is not ours any more")
	}
}

// Disks that another kubelet has mounted since stay mounted: nobody knows whose they are.
func TestResetLeavesSharedDisksToAnotherKubelet(t *testing.T) {
	root := t.TempDir()
	if err := Note(root, true, "lock"); err != nil {
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
	if err := Note(root, true, "lock"); err != nil {
		t.Fatal(err)
	}
	if found, err := ReadFound(root); err != nil || !found.Root || Owns(root, "theirs") {
		t.Errorf("found %+v, %v; theirs is ours: %v", found, err, Owns(root, "theirs"))
	}
}
