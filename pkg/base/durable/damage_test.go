package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

func decode(text []byte) error {
	m := map[string]int{}
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	if m["good"] != 1 {
		return errors.New("not good")
	}
	return nil
}

func whole(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s[*]", "state")
	if err := Write(path, []byte(`{"good":1}`)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatIsDamagedIsMovedAside(t *testing.T) {
	path := whole(t)
	if err := Load(path, "", decode); err != nil {
		t.Fatal(err)
	}
	place := func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "state")
		if err := Write(path, []byte(`{"good":1}`)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	damage.Each(t, place, func(t *testing.T, path string) {
		_, gone := os.Lstat(path)
		err := Load(path, "", decode)
		if errors.Is(err, ErrDamaged) == os.IsNotExist(gone) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
		if err := Load(path, "", decode); err == nil || errors.Is(err, ErrDamaged) {
			t.Errorf("the second time: %v", err)
		}
		if err := Write(path, []byte(`{"good":1}`)); err != nil {
			t.Error(err)
		}
		if err := Load(path, "", decode); err != nil {
			t.Errorf("once it is written again: %v", err)
		}
	})
}

// An error of the disk says nothing about the file, which stays.
func TestWhatTheDiskCannotReadStays(t *testing.T) {
	for _, err := range []error{unix.EIO, unix.EROFS, unix.EMFILE, unix.ENOMEM, unix.ESTALE, unix.EUCLEAN, unix.ENOTCONN, unix.EACCES, unix.EPERM} {
		if IsDamage(&fs.PathError{Op: "open", Err: err}) {
			t.Errorf("%v is taken for damage", err)
		}
	}
}

// What is moved aside is bounded, except for what others may have put there.
func TestTheNewestThatWereMovedAsideAreKept(t *testing.T) {
	path := whole(t)
	for i := range 6 {
		old := path + aside + fmt.Sprintf("20000101T0%d", i)
		if err := os.WriteFile(old, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := MoveAside(path, "", errors.New("bad")); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	for i := range 40 { // of others
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), fmt.Sprintf("%d%s19990101T00", i, aside)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all := Aside(filepath.Join(filepath.Dir(path), "*")); len(all) != maxAside+40 {
		t.Fatalf("%d are aside", len(all))
	}
	if err := errors.Join(os.WriteFile(path+"2", nil, 0o600), os.Remove(path+aside+"20000101T04")); err != nil {
		t.Fatal(err)
	}
	if err := MoveAside(path+"2", "", errors.New("bad")); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if len(entries) != maxAsideAll || len(Aside(path)) != maxAside-1 || len(Aside(path+"2")) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestTemporary(t *testing.T) {
	path := whole(t)
	if err := MoveAside(path, "", errors.New("bad")); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	for _, e := range entries {
		if !Temporary(e.Name()) {
			t.Errorf("%s counts as a file of ours", e.Name())
		}
	}
}

// TestWriteMakesRoom for what it writes first; the file itself may have been named by the
// user, and a directory in its place is not ours to move.
func TestWriteMakesRoom(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := os.MkdirAll(filepath.Join(path+".new", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("x")); err != nil {
		t.Error(err)
	}
	damage.MovedAside(t, path+".new")
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		put  func(string) error
		want func(error) bool
	}{
		"missing":          {func(string) error { return nil }, func(err error) bool { return err == nil }},
		"there":            {func(p string) error { return os.Mkdir(p, 0o755) }, func(err error) bool { return err == nil }},
		"a link":           {func(p string) error { return os.Symlink(dir, p) }, func(err error) bool { return err == nil }},
		"a dead link":      {func(p string) error { return os.Symlink("/nowhere/at/all", p) }, func(err error) bool { return err != nil && !errors.Is(err, ErrDamaged) }},
		"a link to a file": {func(p string) error { return os.Symlink("/etc/hostname", p) }, func(err error) bool { return errors.Is(err, ErrDamaged) }},
		"a link to itself": {func(p string) error { return os.Symlink(p, p) }, func(err error) bool { return errors.Is(err, ErrDamaged) }},
		"a file":           {func(p string) error { return os.WriteFile(p, nil, 0o600) }, func(err error) bool { return errors.Is(err, ErrDamaged) }},
		"a pipe":           {func(p string) error { return unix.Mkfifo(p, 0o600) }, func(err error) bool { return errors.Is(err, ErrDamaged) }},
	} {
		path := filepath.Join(t.TempDir(), "state")
		if err := c.put(path); err != nil {
			t.Fatal(err)
		}
		if err := Dir(path, ""); !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if fi, err := os.Stat(path); name != "a dead link" && (err != nil || !fi.IsDir()) {
			t.Errorf("%s: now %v, %v", name, fi, err)
		}
	}
}

// A link that somebody has put into the path has nothing of the host's read or moved.
func TestLoadInLeavesWhatLinksLeadTo(t *testing.T) {
	dir, host := t.TempDir(), t.TempDir()
	victim := filepath.Join(host, "daemon.json")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(host, filepath.Join(dir, "claims"))); err != nil {
		t.Fatal(err)
	}
	if err := LoadIn(dir, "claims/daemon.json", "", decode); err == nil {
		t.Error("it was read")
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("the host's file: %q, %v", text, err)
	}
}

// TestFileSystemsThatKnowNoFlags of a rename, as NFS and 9p: what is damaged is moved aside
// there too, and replaces nothing.
func TestFileSystemsThatKnowNoFlags(t *testing.T) {
	for _, refusal := range []error{unix.EINVAL, unix.ENOSYS} {
		refuse := func(int, string, int, string, uint) error { return refusal }
		for name, put := range map[string]func(string) error{
			"a file":      func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
			"a directory": func(p string) error { return os.MkdirAll(filepath.Join(p, "full"), 0o700) },
			"a dead link": func(p string) error { return os.Symlink("nowhere", p) },
		} {
			path := filepath.Join(t.TempDir(), "state")
			dir, err := os.Open(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			fd := int(dir.Fd())
			if err := errors.Join(put(path), os.Symlink("nowhere", path+".there")); err != nil {
				t.Fatal(err)
			}
			if err := renameIn(fd, "state", "state.there", refuse); !errors.Is(err, unix.EEXIST) {
				t.Errorf("%s onto what is there, %v: %v", name, refusal, err)
			}
			if err := renameIn(fd, "state", "aside", refuse); err != nil {
				t.Errorf("%s, %v: %v", name, refusal, err)
			}
			if _, err := os.Lstat(filepath.Join(filepath.Dir(path), "aside")); err != nil {
				t.Errorf("%s is not there: %v", name, err)
			}
			if err := renameIn(fd, "state", "later", refuse); !errors.Is(err, unix.ENOENT) {
				t.Errorf("what is not there, %v: %v", refusal, err)
			}
		}
	}
}
