package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/treetest"
)

func TestSubPath(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("data", v1.EmptyDirVolumeSource{}))
	gid := int64(4321)
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &gid}
	setUp(t, m, pod)
	dir := pathOf(t, m, pod, "data")
	outside := t.TempDir()
	write(t, filepath.Join(outside, "host"), "secret of the host")

	t.Run("a missing directory is made like the volume's root", func(t *testing.T) {
		got, err := m.SubPath(t.Context(), pod, "c", 0, "data", "new/deep")
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(m.layout.pods(), "uid-1/volume-subpaths/data/c/0"); got != want {
			t.Errorf("path = %s, want %s", got, want)
		}
		write(t, filepath.Join(got, "f"), "x")
		if read(t, filepath.Join(dir, "new/deep/f")) != "x" {
			t.Error("what is written below is not in the volume")
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "new/deep"), &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode&0o7777 != 0o2777 || st.Gid != 4321 {
			t.Errorf("mode %o gid %d, want 2777 and 4321", st.Mode&0o7777, st.Gid)
		}
	})
	t.Run("repeated calls mount once", func(t *testing.T) {
		for range 3 {
			if _, err := m.SubPath(t.Context(), pod, "c", 1, "data", "new"); err != nil {
				t.Fatal(err)
			}
		}
		points, _ := mountsBelow(filepath.Join(m.layout.pods(), "uid-1/volume-subpaths/data/c/1"))
		if len(points) != 1 {
			t.Errorf("mounts = %v, want one", points)
		}
	})
	t.Run("another subPath replaces the mount", func(t *testing.T) {
		write(t, filepath.Join(dir, "file"), "content")
		got, err := m.SubPath(t.Context(), pod, "c", 1, "data", "file")
		if err != nil {
			t.Fatal(err)
		}
		if read(t, got) != "content" {
			t.Error("the file is not shown")
		}
	})
	t.Run("a link within the volume is followed", func(t *testing.T) {
		if err := os.Symlink("new", filepath.Join(dir, "within")); err != nil {
			t.Fatal(err)
		}
		got, err := m.SubPath(t.Context(), pod, "c", 2, "data", "within/deep")
		if err != nil {
			t.Fatal(err)
		}
		if read(t, filepath.Join(got, "f")) != "x" {
			t.Error("the link's target is not shown")
		}
	})
	for name, target := range map[string]string{
		"relative": "../../../../../../../../../../../../" + outside, "absolute": outside, "dangling": "/nowhere/at/all",
	} {
		t.Run("a link that leaves the volume is refused: "+name, func(t *testing.T) {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			for _, sub := range []string{name, name + "/host", name + "/made"} {
				if got, err := m.SubPath(t.Context(), pod, "c", 3, "data", sub); err == nil {
					t.Errorf("subPath %q gave %s", sub, got)
				} else if !strings.Contains(err.Error(), "leads out of the volume") {
					t.Errorf("subPath %q: %v", sub, err)
				}
			}
		})
	}
	for _, sub := range []string{"..", "../x", "a/../../x", "/etc"} {
		if got, err := m.SubPath(t.Context(), pod, "c", 3, "data", sub); err == nil {
			t.Errorf("subPath %q gave %s", sub, got)
		}
	}
	if _, err := os.Lstat(filepath.Join(outside, "made")); err == nil {
		t.Error("a directory was made outside of the volume")
	}
	t.Run("TearDown takes the mounts and the data", func(t *testing.T) {
		if err := m.TearDown(t.Context(), pod.UID); err != nil {
			t.Fatal(err)
		}
		if points, _ := mountsBelow(m.layout.pods()); len(points) != 0 {
			t.Errorf("mounts left: %v", points)
		}
	})
}

// A container that owns the volume swaps a directory for a link as fast as it can;
// whatever the mount shows must still be in the volume.
func TestSubPathIsSafeAgainstAContainerThatSwapsLinks(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("data", v1.EmptyDirVolumeSource{}))
	setUp(t, m, pod)
	dir := pathOf(t, m, pod, "data")
	outside := t.TempDir()
	write(t, filepath.Join(outside, "host"), "secret of the host")
	for _, d := range []string{"a", "a/sub", "real"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "evil")); err != nil {
		t.Fatal(err)
	}
	treetest.Exchange(t, filepath.Join(dir, "a"), filepath.Join(dir, "evil"))
	for i := range 500 {
		got, err := m.SubPath(t.Context(), pod, "c", 0, "data", "a/"+filepath.Base(outside))
		if err != nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(got, "host")); err == nil {
			t.Errorf("round %d: the mount shows the host", i)
			break
		}
	}
}

// A container puts another directory in the place of the one that is being made, at the
// right moment: that directory keeps its mode.
func TestSubPathChangesNoModeOfWhatWasThere(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	made, private, aside := filepath.Join(dir, "made"), filepath.Join(dir, "private"), filepath.Join(dir, "aside")
	for _, d := range []string{private, aside} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	place := openedPlace(t, private)
	if err := os.Mkdir(made, 0o700); err != nil {
		t.Fatal(err)
	}
	stop := treetest.Exchange(t, made, private)
	for start := time.Now(); time.Since(start) < 2*time.Second; {
		// Whichever of the two has the name now goes aside for this round.
		_ = os.Rename(made, filepath.Join(aside, "made"))
		if fd, err := openBeneath(dir, "made"); err == nil {
			unix.Close(fd)
		}
		fi, err := place.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o700 {
			t.Fatalf("a directory that was there has mode %v now", fi.Mode())
		}
		stop()
		for _, d := range []string{made, private, filepath.Join(aside, "made")} {
			if d != private {
				if same, err := os.Stat(d); err == nil && os.SameFile(same, fi) {
					_ = os.RemoveAll(private)
					if err := os.Rename(d, private); err != nil {
						t.Fatal(err)
					}
				}
				_ = os.RemoveAll(d)
			}
		}
		if err := os.Mkdir(made, 0o700); err != nil {
			t.Fatal(err)
		}
		stop = treetest.Exchange(t, made, private)
	}
}

func FuzzSubPath(f *testing.F) {
	for _, s := range []string{"a", "a/b", "../x", "link", "link/x", "a/../b", ".", "a//b", "out", "out/x", "/etc/passwd", "a/\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sub string) {
		root := t.TempDir()
		vol := filepath.Join(root, "vol")
		if err := os.MkdirAll(filepath.Join(vol, "a"), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.Symlink("a", filepath.Join(vol, "link"))
		_ = os.Symlink("..", filepath.Join(vol, "out"))
		fd, err := openBeneath(vol, sub)
		if err == nil {
			where, err := os.Readlink(procPath(fd))
			unix.Close(fd)
			if err != nil {
				t.Fatal(err)
			}
			if where != vol && !strings.HasPrefix(where, vol+"/") {
				t.Errorf("subPath %q reached %s", sub, where)
			}
		}
		entries, err := os.ReadDir(root)
		if err != nil || len(entries) != 1 {
			t.Errorf("subPath %q made something outside of the volume: %v, %v", sub, entries, err)
		}
	})
}
