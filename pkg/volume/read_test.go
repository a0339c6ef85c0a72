package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

func TestReadFile(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("disk", v1.EmptyDirVolumeSource{}), emptyDirVolume("memory", v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}))
	setUp(t, m, pod)
	outside := filepath.Join(t.TempDir(), "host")
	write(t, outside, "of the host")
	for _, volume := range []string{"disk", "memory"} {
		dir := pathOf(t, m, pod, volume)
		if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "d/f"), "of the volume")
		write(t, filepath.Join(dir, "exact"), strings.Repeat("x", 20))
		write(t, filepath.Join(dir, "large"), strings.Repeat("x", 21))
		for name, to := range map[string]string{
			"within": "d/f", "up": "d/../d/f", "absolute": "/d/f", "out": outside, "climbing": "../../../../../../../.." + outside,
			"magic": "/proc/self/exe", "loop": "loop", "dirs": "/",
		} {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o666); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			"d/f": "of the volume", "/d/f": "of the volume", "within": "of the volume", "up": "of the volume", "absolute": "of the volume", "dirs/d/f": "of the volume",
			"exact": strings.Repeat("x", 20),
		} {
			got, err := m.ReadFile(t.Context(), pod, volume, path, 20)
			if err != nil || string(got) != want {
				t.Errorf("%s of %s: %q, %v; want %q", path, volume, got, err, want)
			}
		}
		for path, want := range map[string]string{
			"large": "too large", "pipe": "not a regular file", "d": "not a regular file", "": "no such file", "loop": `open "loop": too many levels of symbolic links`,
			"no": "no such file", "out": "no such file", "climbing": "no such file", "magic": "no such file", "../../../etc/passwd": "no such file",
		} {
			got, err := m.ReadFile(t.Context(), pod, volume, path, 20)
			if err == nil || !strings.Contains(err.Error(), want) || got != nil {
				t.Errorf("%s of %s: %q, %v; want error %q", path, volume, got, err, want)
			}
			if missing := want == "no such file"; errors.Is(err, fs.ErrNotExist) != missing {
				t.Errorf("%s of %s: %v; missing should be %t", path, volume, err, missing)
			}
		}
	}
	if _, err := m.ReadFile(t.Context(), pod, "none", "f", 20); err == nil {
		t.Error("a volume that the pod does not have was read")
	}
}

func TestReadFileEntersNoMount(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("disk", v1.EmptyDirVolumeSource{}))
	setUp(t, m, pod)
	at := filepath.Join(pathOf(t, m, pod, "disk"), "mounted")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	write(t, filepath.Join(at, "f"), "x")
	if got, err := m.ReadFile(t.Context(), pod, "disk", "mounted/f", 20); !errors.Is(err, unix.EXDEV) {
		t.Errorf("%q, %v; want EXDEV", got, err)
	}
}
