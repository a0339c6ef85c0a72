package volume

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

func TestPathsThatLinuxDoesNotTakeAreRefused(t *testing.T) {
	long := strings.Repeat("/a", 1<<20)
	for name, k := range map[string]kind{
		"hostPath": &hostPath{source: &v1.HostPathVolumeSource{Path: long}},
		"relative": &hostPath{source: &v1.HostPathVolumeSource{Path: long[1:]}},
		"local":    &local{pv: &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{PersistentVolumeSource: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: long}}}}},
		"device":   &device{node: long},
	} {
		if err := k.setUp(t.Context()); !errors.Is(err, unix.ENAMETOOLONG) || len(err.Error()) > 200 {
			t.Errorf("%s: error %.300v", name, err)
		}
	}
	longest := long[:bounds.MaxPath-1]
	if err := (&hostPath{source: &v1.HostPathVolumeSource{Path: longest}}).setUp(t.Context()); err != nil {
		t.Errorf("the longest: %v", err)
	}
}

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "content")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.Symlink("nowhere", broken); err != nil {
		t.Fatal(err)
	}
	// A short path: a socket's name can have 107 characters.
	sockets, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	socket := filepath.Join(sockets, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	block := filepath.Join(dir, "block")
	haveBlock := unix.Mknod(block, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))) == nil
	missing := filepath.Join(dir, "missing")

	types := []v1.HostPathType{v1.HostPathUnset, v1.HostPathDirectory, v1.HostPathFile, v1.HostPathSocket, v1.HostPathCharDev, v1.HostPathBlockDev}
	paths := map[string]v1.HostPathType{
		dir: v1.HostPathDirectory, file: v1.HostPathFile, link: v1.HostPathFile,
		socket: v1.HostPathSocket, "/dev/null": v1.HostPathCharDev,
		missing: v1.HostPathUnset, broken: v1.HostPathUnset,
	}
	if haveBlock {
		paths[block] = v1.HostPathBlockDev
	}
	for path, is := range paths {
		for _, asked := range types {
			err := setUpHostPath(t, path, asked)
			if ok := asked == v1.HostPathUnset || asked == is; ok != (err == nil) {
				t.Errorf("%s asked to be %q: error %v", path, asked, err)
			}
			if err != nil && !strings.Contains(err.Error(), "hostPath type check failed: "+path+" is not a ") {
				t.Errorf("%s asked to be %q: %v", path, asked, err)
			}
		}
	}
	if err := setUpHostPath(t, file, "Folder"); err == nil {
		t.Error("an unknown type was accepted")
	}
}

func TestHostPathCreatesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	t.Run("directory with its parents", func(t *testing.T) {
		p := filepath.Join(dir, "a", "b")
		for range 2 {
			if err := setUpHostPath(t, p, v1.HostPathDirectoryOrCreate); err != nil {
				t.Fatal(err)
			}
		}
		if fi, err := os.Stat(p); err != nil || !fi.IsDir() || fi.Mode().Perm() != 0o755 {
			t.Errorf("%v, %v; want a directory of mode 0755", fi, err)
		}
	})
	t.Run("file", func(t *testing.T) {
		p := filepath.Join(dir, "f")
		if err := setUpHostPath(t, p, v1.HostPathFileOrCreate); err != nil {
			t.Fatal(err)
		}
		write(t, p, "kept")
		if err := setUpHostPath(t, p, v1.HostPathFileOrCreate); err != nil || read(t, p) != "kept" {
			t.Errorf("second SetUp: %v, content %q", err, read(t, p))
		}
	})
	t.Run("a file needs its directory", func(t *testing.T) {
		if err := setUpHostPath(t, filepath.Join(dir, "no", "f"), v1.HostPathFileOrCreate); err == nil {
			t.Error("succeeded")
		}
	})
	t.Run("a file is no directory", func(t *testing.T) {
		if err := setUpHostPath(t, filepath.Join(dir, "f"), v1.HostPathDirectoryOrCreate); err == nil {
			t.Error("succeeded")
		}
	})
}

func TestHostPathRefusesPathsThatLead(t *testing.T) {
	for _, p := range []string{"", "relative", "/a/../etc", "/.."} {
		if err := setUpHostPath(t, p, v1.HostPathUnset); err == nil {
			t.Errorf("hostPath %q was accepted", p)
		}
	}
}

func TestHostPathIsLeftAloneByTearDownAndReset(t *testing.T) {
	m := newManager(t, Config{})
	dir := t.TempDir()
	write(t, filepath.Join(dir, "precious"), "x")
	pod := testPod(v1.Volume{Name: "h", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}}})
	setUp(t, m, pod)
	if p, err := m.Path(pod, "h"); err != nil || p != (Path{Host: dir}) {
		t.Errorf("Path = %+v, %v; want the host's own, not to be relabelled", p, err)
	}
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if err := Reset(t.Context(), m.layout.root); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(dir, "precious")) != "x" {
		t.Error("data of the host was lost")
	}
}

func setUpHostPath(t *testing.T, path string, hostPathType v1.HostPathType) error {
	t.Helper()
	return (&hostPath{source: &v1.HostPathVolumeSource{Path: path, Type: &hostPathType}}).setUp(t.Context())
}
