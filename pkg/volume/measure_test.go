package volume

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestSpaceOfVolumes(t *testing.T) {
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("scratch", v1.EmptyDirVolumeSource{}), v1.Volume{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/"}}})
	if err := m.SetUp(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	path, err := m.Path(pod, "scratch")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path.Host, "f"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := m.Space(t.Context(), pod, "scratch")
	if err != nil || *s.Used < 1<<20 || *s.Used > 2<<20 || *s.InodesUsed != 2 || *s.Capacity <= *s.Used {
		t.Errorf("emptyDir: %+v, %v", s, err)
	}
	if _, err := m.Space(t.Context(), pod, "host"); !errors.Is(err, ErrNotMeasured) {
		t.Errorf("hostPath: %v", err)
	}
	if _, err := m.Space(t.Context(), pod, "none"); err == nil {
		t.Error("no error for a volume that the pod does not have")
	}
}

func TestSpaceOfAClaim(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{PersistentVolumeSource: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: dir}}}}
	pv.Name = "disk"
	m := newManager(t, Config{})
	pod := testPod(v1.Volume{Name: "data", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}})
	if _, err := m.Space(t.Context(), pod, "data"); !errors.Is(err, ErrNotMeasured) {
		t.Errorf("a claim that is not bound yet: %v", err)
	}
	if err := m.SetUp(t.Context(), testPod()); err != nil { // marks the pod as ours
		t.Fatal(err)
	}
	m.mu.Lock()
	m.bindings[pod.UID] = map[string]*v1.PersistentVolume{"data": pv}
	m.mu.Unlock()
	if _, err := m.Space(t.Context(), pod, "data"); !errors.Is(err, ErrNotMeasured) {
		t.Errorf("a directory without its mount: %v", err)
	}
	k, err := m.persistent(pod, &pod.Spec.Volumes[0], pv)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(k.path().Host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := k.setUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := m.Space(t.Context(), pod, "data"); err != nil || *s.Capacity == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
