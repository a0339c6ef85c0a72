package safefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

const name = "dir/file"

// place makes dir/file, which contains "old".
func place(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("old"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWhatIsOpened lists what each function does with each thing in a file's place: nil
// means that it opens it.
func TestWhatIsOpened(t *testing.T) {
	type outcomes = map[string]error
	const irregular = safefiletest.Directory
	reading := outcomes{safefiletest.Link: safefile.ErrLink, safefiletest.LinkToDir: safefile.ErrLink, safefiletest.Removed: fs.ErrNotExist}
	inRoot := outcomes{safefiletest.Link: fs.ErrNotExist, safefiletest.LinkToDir: fs.ErrNotExist, safefiletest.Removed: fs.ErrNotExist}
	writing := outcomes{safefiletest.Link: safefile.ErrLink, safefiletest.LinkToDir: safefile.ErrLink, safefiletest.HardLink: safefile.ErrLinked}
	within := outcomes{safefiletest.Link: safefile.ErrOutside, safefiletest.LinkToDir: safefile.ErrOutside, safefiletest.Removed: fs.ErrNotExist,
		safefiletest.Pipe: safefile.ErrNotRegular, safefiletest.Device: safefile.ErrNotRegular}
	for _, o := range []outcomes{reading, inRoot, writing} {
		o[safefiletest.Pipe], o[safefiletest.Device], o[irregular] = safefile.ErrNotRegular, safefile.ErrNotRegular, safefile.ErrNotRegular
	}
	for _, tt := range []struct {
		name string
		open func(dir string) (*os.File, error)
		want outcomes
	}{
		{"Open", func(dir string) (*os.File, error) { return safefile.Open(dir, name) }, reading},
		{"OpenInRoot", func(dir string) (*os.File, error) { return safefile.OpenInRoot(dir, "/"+name) }, inRoot},
		{"OpenWithin", func(dir string) (*os.File, error) { return safefile.OpenWithin(dir, "/"+name) }, within},
		{"OpenFile to append", func(dir string) (*os.File, error) {
			return safefile.OpenFile(dir, name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
		}, writing},
		{"OpenFile to empty", func(dir string) (*os.File, error) {
			return safefile.OpenFile(dir, name, os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o640)
		}, writing},
		{"Create", func(dir string) (*os.File, error) { return safefile.Create(dir, name, 0o666) }, outcomes{irregular: unix.EISDIR}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			safefiletest.Each(t, place, func(t *testing.T, what, path string) {
				f, err := tt.open(filepath.Dir(filepath.Dir(path)))
				if !errors.Is(err, tt.want[what]) || (err == nil) != (tt.want[what] == nil) {
					t.Errorf("%v, want %v", err, tt.want[what])
				}
				if err == nil {
					if f.Name() != path {
						t.Errorf("its name is %s", f.Name())
					}
					f.Close()
				}
			})
		})
	}
}

func TestCreateMakesAnEmptyFileOfItsOwn(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		f, err := safefile.Create(filepath.Dir(path), filepath.Base(path), 0o666)
		if what == safefiletest.Directory {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if fi, err := os.Lstat(path); err != nil || fi.Mode() != 0o666 || fi.Size() != 0 {
			t.Errorf("made %v, %v", fi, err)
		}
	})
}

func TestRewrite(t *testing.T) {
	for what, content := range map[string]string{"as it is": "new", "another of the same size": "old", "longer": "old and long", "empty": ""} {
		t.Run(what, func(t *testing.T) {
			path := place(t)
			if err := errors.Join(os.WriteFile(path, []byte(content), 0), os.Chmod(path, 0o604)); err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := safefile.Rewrite(filepath.Dir(path), filepath.Base(path), []byte("new"), 0o644); err != nil {
				t.Fatal(err)
			}
			after, err := os.Stat(path)
			if err != nil || !os.SameFile(before, after) || after.Mode() != 0o644 {
				t.Errorf("%v, %v", after, err)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != "new" {
				t.Errorf("%q, %v", text, err)
			}
			if kept := after.ModTime().Equal(before.ModTime()); kept != (content == "new") {
				t.Errorf("written again: %v", !kept)
			}
		})
	}
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		err := safefile.Rewrite(filepath.Dir(path), filepath.Base(path), []byte("new"), 0o644)
		repairs := what == safefiletest.Grown || what == safefiletest.Removed
		if (err == nil) != repairs {
			t.Errorf("error %v, want one: %v", err, !repairs)
		}
		if !repairs {
			return
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "new" {
			t.Errorf("holds %.50q, %v", text, err)
		}
	})
}

// TestALeaseIsNotWaitedFor: root in a container owns its /etc/hosts, and can hold a
// lease on it.
func TestALeaseIsNotWaitedFor(t *testing.T) {
	path := place(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	rewrite := func() error { return safefile.Rewrite(filepath.Dir(path), filepath.Base(path), []byte("new"), 0o644) }
	safefiletest.Within(t, func() {
		if err := rewrite(); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%v, want EAGAIN", err)
		}
	})
	f.Close()
	if err := rewrite(); err != nil {
		t.Errorf("once the lease is gone: %v", err)
	}
}

func TestReadIsBounded(t *testing.T) {
	path := place(t)
	for size, want := range map[int64]error{3: nil, 4: nil, 5: safefile.ErrTooLarge, 8 << 40: safefile.ErrTooLarge} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		f, err := safefile.Open(filepath.Split(path))
		if err != nil {
			t.Fatal(err)
		}
		data, err := safefile.Read(f, 4)
		if !errors.Is(err, want) || err == nil && int64(len(data)) != size || err != nil && data != nil {
			t.Errorf("of %d bytes: %q, %v, want %v", size, data, err, want)
		}
		f.Close()
	}
}

func TestReadEnd(t *testing.T) {
	path := place(t)
	for limit, want := range map[int64]string{2: "ld", 3: "old", 9: "old"} {
		data, whole, err := safefile.ReadEnd(filepath.Dir(path), filepath.Base(path), limit)
		if err != nil || string(data) != want || whole != (limit >= 3) {
			t.Errorf("at most %d: %q, %v, %v", limit, data, whole, err)
		}
	}
}

func TestLinksWithinAreFollowed(t *testing.T) {
	dir := filepath.Dir(filepath.Dir(place(t)))
	host := place(t)
	alias := filepath.Join(t.TempDir(), "alias") // as /var/log is where it has a disk of its own
	if err := errors.Join(os.Symlink(dir, alias), os.Symlink(filepath.Join(alias, name), filepath.Join(dir, "absolute")),
		os.Symlink("dir", filepath.Join(dir, "relative")), os.Symlink("../"+filepath.Base(dir)+"/dir", filepath.Join(dir, "around")),
		os.Symlink(host, filepath.Join(dir, "out")), os.Symlink("loop", filepath.Join(dir, "loop"))); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{name, "absolute", "relative/file", "around/file", "/dir/../relative/file", "", "relative", "../" + name} {
		f, err := safefile.OpenWithin(alias, n)
		if err != nil {
			t.Errorf("%s: %v", n, err)
			continue
		}
		f.Close()
	}
	for _, n := range []string{"out", "loop", "relative/none", host} {
		if f, err := safefile.OpenWithin(alias, n); err == nil {
			f.Close()
			t.Errorf("%s is opened", n)
		}
	}
}

func TestNoPathLeadsOut(t *testing.T) {
	dir := filepath.Dir(filepath.Dir(place(t)))
	host := place(t)
	if err := errors.Join(os.Symlink(filepath.Dir(host), filepath.Join(dir, "out")), os.Symlink("dir", filepath.Join(dir, "within")),
		os.Symlink("loop", filepath.Join(dir, "loop"))); err != nil {
		t.Fatal(err)
	}
	climbing := strings.Repeat("../", 20) + host
	for _, name := range []string{"out/file", "within/file", "loop/file", "loop", climbing, host} {
		if f, err := safefile.Open(dir, name); err == nil {
			f.Close()
			t.Errorf("Open opened %s", name)
		}
		if f, err := safefile.OpenFile(dir, name, os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
			f.Close()
			t.Errorf("OpenFile opened %s", name)
		}
		if f, err := safefile.Create(dir, name, 0o600); err == nil && name != "loop" { // which it replaces
			f.Close()
			t.Errorf("Create made %s", name)
		}
	}
	f, err := safefile.OpenInRoot(dir, "within/../within/file")
	if err != nil {
		t.Fatalf("OpenInRoot of a link within: %v", err)
	}
	f.Close()
	for _, name := range []string{"out/file", climbing, host} {
		if f, err := safefile.OpenInRoot(dir, name); err == nil {
			f.Close()
			t.Errorf("OpenInRoot opened %s", name)
		}
	}
	if text, err := os.ReadFile(host); err != nil || string(text) != "old" {
		t.Errorf("the host's file: %q, %v", text, err)
	}
}
