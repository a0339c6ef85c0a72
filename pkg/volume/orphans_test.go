package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestOrphansAreUnmountedAndRemovedButKnownPodsKept(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{})
	outside := t.TempDir()
	write(t, filepath.Join(outside, "precious"), "x")
	// Left by a pod earlier: a tmpfs, a bind mount hidden below another mount, files.
	left := filepath.Join(m.layout.pods(), "gone", volumesDir, "kubernetes.io~csi", "v")
	if err := os.MkdirAll(filepath.Join(left, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.own("gone"); err != nil {
		t.Fatal(err)
	}
	mountFor(t, outside, filepath.Join(left, "deep"), "", unix.MS_BIND)
	mountFor(t, "tmpfs", left, "tmpfs", 0)
	write(t, filepath.Join(left, "secret"), "x")
	for _, uid := range []string{"known", "alive"} {
		pod := testPod(emptyDirVolume("data", v1.EmptyDirVolumeSource{}))
		pod.UID = types.UID(uid)
		setUp(t, m, pod)
	}
	m.setLive("known", false) // as if set up by an earlier process

	if err := m.Orphans(t.Context(), func(uid types.UID) bool { return uid != "known" }); err != nil {
		t.Fatalf("Orphans: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(m.layout.pods(), "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the orphan's directory is still there")
	}
	for _, uid := range []string{"known", "alive"} {
		if _, err := os.Lstat(filepath.Join(m.layout.pods(), uid)); err != nil {
			t.Errorf("pod %s: %v", uid, err)
		}
	}
	if read(t, filepath.Join(outside, "precious")) != "x" {
		t.Error("data behind the orphan's mount was lost")
	}
	if err := m.TearDown(t.Context(), "alive"); err != nil {
		t.Fatal(err)
	}
	if err := m.Orphans(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{m.layout.pods(), filepath.Join(m.layout.root, ownPods)} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("left in %s: %v, %v", dir, entries, err)
		}
	}
}

func TestABusyMountIsKeptAndNamed(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("mem", v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}))
	setUp(t, m, pod)
	dir := pathOf(t, m, pod, "mem")
	f, err := os.Create(filepath.Join(dir, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.TearDown(t.Context(), pod.UID); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("TearDown of a busy mount = %v, want an error that names it", err)
	}
	if _, err := f.Stat(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(f.Name()); err != nil {
		t.Errorf("data of a mount in use is gone: %v", err)
	}
	f.Close()
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Errorf("TearDown once it is free: %v", err)
	}
}

func TestResetRemovesPodsAndNothingElse(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{})
	setUp(t, m, testPod(emptyDirVolume("mem", v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory})))
	other := filepath.Join(m.layout.root, "config.yaml")
	write(t, other, "kept")
	for range 2 {
		if err := Reset(t.Context(), m.layout.root); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(m.layout.pods()); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	if read(t, other) != "kept" {
		t.Error("a file beside the pods was lost")
	}
	if err := Reset(t.Context(), filepath.Join(m.layout.root, "absent")); err != nil {
		t.Errorf("Reset of a root that is not there: %v", err)
	}
}

// mountFor mounts for the duration of the test.
func mountFor(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

func all(types.UID) bool { return true }
