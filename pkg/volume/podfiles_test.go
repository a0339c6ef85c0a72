package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

const uid = types.UID("uid-1")

// TestHostsFileThatIsNone: root in a container grows its /etc/hosts, a pod with a
// hostPath puts anything in the place of another pod's.
func TestHostsFileThatIsNone(t *testing.T) {
	var m *Manager
	place := func(t *testing.T) string {
		m = newManager(t, Config{})
		path, err := m.HostsFile(uid, []byte("127.0.0.1 localhost\n"))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		_, err := m.HostsFile(uid, []byte("127.0.0.1 localhost\n"))
		switch what {
		case safefiletest.Grown, safefiletest.Removed:
			if err != nil {
				t.Error(err)
			} else if fi, err := os.Lstat(path); err != nil || fi.Size() != 20 || fi.Mode() != 0o644 {
				t.Errorf("now it is %v, %v", fi, err)
			}
		default:
			if err == nil || !strings.Contains(err.Error(), "write hosts file of pod uid-1") {
				t.Errorf("error %v", err)
			}
		}
	})
}

func TestHostsFileGetsItsModeBack(t *testing.T) {
	m := newManager(t, Config{})
	path, err := m.HostsFile(uid, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, os.ModeSetuid|0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := m.HostsFile(uid, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o644 {
		t.Errorf("%v, %v", fi, err)
	}
}

func TestTerminationLogInPlaceOfAnything(t *testing.T) {
	var m *Manager
	place := func(t *testing.T) string {
		m = newManager(t, Config{})
		path, err := m.TerminationLog(uid, "c", 0)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		_, err := m.TerminationLog(uid, "c", 0)
		if what == safefiletest.Directory {
			if err == nil {
				t.Error("a directory was taken for the file")
			}
			return
		}
		if err != nil {
			t.Error(err)
		} else if fi, err := os.Lstat(path); err != nil || fi.Size() != 0 || fi.Mode() != 0o666 {
			t.Errorf("now it is %v, %v", fi, err)
		}
	})
}

// TestPodDirectoryThatLeadsElsewhere: no file of a pod is made outside of its directory.
func TestPodDirectoryThatLeadsElsewhere(t *testing.T) {
	for _, link := range []string{"uid-1", "uid-1/containers", "uid-1/containers/c"} {
		m, host := newManager(t, Config{}), t.TempDir()
		path := filepath.Join(m.layout.pods(), link)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(host, path); err != nil {
			t.Fatal(err)
		}
		if _, err := m.TerminationLog(uid, "c", 0); err == nil {
			t.Errorf("termination log through %s", link)
		}
		if _, err := m.HostsFile(uid, nil); err == nil && link == "uid-1" {
			t.Errorf("hosts file through %s", link)
		}
		if entries, err := os.ReadDir(host); err != nil || len(entries) > 0 {
			t.Errorf("through %s: %v, %v", link, entries, err)
		}
	}
}

// TestWrittenVolumeWithSomethingElseInIt: files that the node writes into a volume
// are restored, whatever somebody who can write to it has done to them.
func TestWrittenVolumeWithSomethingElseInIt(t *testing.T) {
	files := map[string]file{"a": {data: []byte("old"), mode: 0o644, uid: -1}, "d/b": {data: []byte("new"), mode: 0o600, uid: -1}}
	for _, name := range []string{"a", "d/b", "d", "."} {
		t.Run(name, func(t *testing.T) {
			place := func(t *testing.T) string {
				dir := t.TempDir()
				stamp := writeAll(t, dir, files)
				path := filepath.Join(dir, stamp, name)
				if name == "d" || name == "." { // not a file: replaced by one that can grow
					if err := os.RemoveAll(path); err != nil {
						t.Fatal(err)
					}
					write(t, path, "")
				}
				return path
			}
			safefiletest.Each(t, place, func(t *testing.T, what, path string) {
				dir := path[:strings.Index(path, "/..")]
				if _, err := writeFiles(t.Context(), dir, files, -1); err != nil {
					t.Error(err)
					return
				}
				if got := shown(t, dir); len(got) != 2 || got["a"] != "old" || got["d/b"] != "new" {
					t.Errorf("now it shows %v", got)
				}
			})
		})
	}
}

func TestEnvFileThatIsNone(t *testing.T) {
	place := func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "env")
		write(t, path, "K='v'\n")
		return path
	}
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		text, err := readInVolume(filepath.Dir(path), "env", 1<<20)
		if err == nil && what != safefiletest.HardLink { // made by somebody who can read it anyway
			t.Errorf("read %.50q", text)
		}
	})
}
