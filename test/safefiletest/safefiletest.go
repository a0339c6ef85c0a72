// Package safefiletest puts in a file's place what a container can put there, for
// tests of those who open files that containers can write to.
package safefiletest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What can stand in a file's place.
const (
	Grown     = "grown, sparse"
	Link      = "a link to a file of the host"
	LinkToDir = "a link to a directory of the host"
	HardLink  = "a file of the host by another name"
	Pipe      = "a pipe"
	Device    = "a device"
	Directory = "a directory"
	Removed   = "removed"
)

// Precious is the content of the host's file that the links lead to.
const Precious = "root:$6$precious:19000:0:99999:7:::\n"

// Each runs a subtest for each of these: place returns a path that is to be there, and
// do is called once its file has been replaced. do must return, and the host's file must
// be what it was. Where the machine cannot make one, its subtest is skipped.
func Each(t *testing.T, place func(t *testing.T) (path string), do func(t *testing.T, what, path string)) {
	t.Helper()
	for _, what := range []string{Grown, Link, LinkToDir, HardLink, Pipe, Device, Directory, Removed} {
		t.Run(what, func(t *testing.T) {
			path := place(t)
			host := t.TempDir()
			victim := filepath.Join(host, "shadow")
			if err := os.WriteFile(victim, []byte(Precious), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := replace(what, path, victim); what == Device && os.IsPermission(err) {
				t.Skipf("devices cannot be made here: %v", err)
			} else if errors.Is(err, unix.EXDEV) {
				t.Skipf("the file is on another disk: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			Within(t, func() { do(t, what, path) })
			if text, err := os.ReadFile(victim); err != nil || string(text) != Precious {
				t.Errorf("the host's file is now %.50q, %v", text, err)
			}
			if fi, err := os.Lstat(victim); err != nil || fi.Mode() != 0o600 {
				t.Errorf("the host's file has now mode %v, %v", fi.Mode(), err)
			}
			if entries, err := os.ReadDir(host); err != nil || len(entries) != 1 {
				t.Errorf("beside the host's file there is now %v, %v", entries, err)
			}
		})
	}
}

// Within fails the test when do has not returned after ten seconds.
func Within(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it hangs")
	}
}

func replace(what, path, victim string) error {
	if what == Grown {
		return os.Truncate(path, 8<<40)
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	switch what {
	case Link:
		return os.Symlink(victim, path)
	case LinkToDir:
		return os.Symlink(filepath.Dir(victim), path)
	case HardLink:
		return os.Link(victim, path)
	case Pipe:
		return unix.Mkfifo(path, 0o666)
	case Device:
		return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) // zeros without end
	case Directory:
		return os.Mkdir(path, 0o755)
	}
	return nil
}
