package hostdir

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMake(t *testing.T) {
	// The umask of the strictest service manager; it belongs to the process, so nothing
	// here runs in parallel.
	old := unix.Umask(0o077)
	t.Cleanup(func() { unix.Umask(old) })
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "real", "broken": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		made       map[string]fs.FileMode // what exists afterwards
		err        string
	}{
		{"with its parents", "a/b/c", map[string]fs.FileMode{"a": 0o755, "a/b": 0o755, "a/b/c": 0o755}, ""},
		{"again", "a/b/c", nil, ""},
		{"with a slash at its end", "s/t/", map[string]fs.FileMode{"s/t": 0o755}, ""},
		{"below a link", "link/x", map[string]fs.FileMode{"real/x": 0o755, "real": 0o700}, ""},
		{"a directory that is there keeps its mode", "real", map[string]fs.FileMode{"real": 0o700}, ""},
		{"a file that is there stays one", "file", nil, ""},
		{"a link that leads nowhere", "broken", nil, "broken is a link that leads nowhere"},
		{"below a link that leads nowhere", "broken/x", nil, "broken is a link that leads nowhere"},
		{"below a file", "file/x", nil, "not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Make(dir + "/" + tc.path)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			for path, mode := range tc.made {
				if fi, err := os.Lstat(filepath.Join(dir, path)); err != nil || !fi.IsDir() || fi.Mode().Perm() != mode {
					t.Errorf("%s: %v, %v; want a directory of mode %v", path, fi, err, mode)
				}
			}
		})
	}
	for _, path := range []string{"nowhere", "file/x"} {
		if _, err := os.Lstat(filepath.Join(dir, path)); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}

func TestMakeByManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := Make(filepath.Join(dir, "a/b/c/d")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
