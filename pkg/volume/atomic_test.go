package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func text(content map[string]string) map[string]file {
	files := map[string]file{}
	for p, s := range content {
		files[p] = file{data: []byte(s), mode: 0o644, uid: -1}
	}
	return files
}

func writeAll(t *testing.T, dir string, files map[string]file) string {
	t.Helper()
	stamp, err := writeFiles(t.Context(), dir, files, -1)
	if err != nil {
		t.Fatalf("writeFiles: %v", err)
	}
	return stamp
}

// shown returns what a container would find: all files by path, links followed.
func shown(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		top, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Errorf("a link leads nowhere: %v", err)
			continue
		}
		err = filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, _ := filepath.Rel(top, p)
				found[filepath.Join(e.Name(), rel)] = read(t, p)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	return found
}

// stamps returns the node's own directories in a volume.
func stamps(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") && e.Name() != dataLink {
			all = append(all, e.Name())
		}
	}
	return all
}

func TestFilesFollowEachOther(t *testing.T) {
	dir := t.TempDir()
	before := ""
	for _, step := range []struct {
		name    string
		content map[string]string
		same    bool
	}{
		{name: "at first", content: map[string]string{"a": "1", "b": "2"}},
		{name: "nothing new", content: map[string]string{"a": "1", "b": "2"}, same: true},
		{name: "another content of the same length", content: map[string]string{"a": "1", "b": "3"}},
		{name: "one more", content: map[string]string{"a": "1", "b": "3", "c": ""}},
		{name: "one less", content: map[string]string{"a": "1", "c": ""}},
		{name: "directories", content: map[string]string{"a": "1", "d/e/f": "4", "d/g": "5"}},
		{name: "directories again", content: map[string]string{"a": "1", "d/e/f": "4", "d/g": "5"}, same: true},
		{name: "a file less in a directory", content: map[string]string{"a": "1", "d/g": "5"}},
		{name: "a directory becomes a file", content: map[string]string{"a": "1", "d": "6"}},
		{name: "a file becomes a directory", content: map[string]string{"a/b": "1", "d": "6"}},
		{name: "nothing at all", content: map[string]string{}},
		{name: "still nothing", content: map[string]string{}, same: true},
		{name: "all odd names", content: map[string]string{".dot": "1", "with space": "2", "a..b": "3", "é\xff": "4"}},
	} {
		stamp := writeAll(t, dir, text(step.content))
		if got := shown(t, dir); !maps.Equal(got, step.content) {
			t.Errorf("%s: shows %q, want %q", step.name, got, step.content)
		}
		if (stamp == before) != step.same {
			t.Errorf("%s: written to %s, before it was %s", step.name, stamp, before)
		}
		if got := stamps(t, dir); !slices.Equal(got, []string{stamp}) {
			t.Errorf("%s: directories %v, want only %s", step.name, got, stamp)
		}
		before = stamp
	}
}

func TestModesAreExactAndAChangedModeIsWritten(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := t.TempDir()
	files := map[string]file{"d/a": {mode: 0o644, uid: -1}, "b": {mode: 0o400, uid: -1}}
	first := writeAll(t, dir, files)
	for p, want := range map[string]os.FileMode{"d/a": 0o644, "b": 0o400, "d": 0o755, dataLink: 0o755} {
		if fi, err := os.Stat(filepath.Join(dir, p)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", p, fi.Mode(), err, want)
		}
	}
	files["b"] = file{mode: 0o440, uid: -1}
	if second := writeAll(t, dir, files); second == first {
		t.Error("the new mode was not written")
	}
}

func TestFilesBelongToTheirUserAndGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	files := map[string]file{"d/a": {mode: 0o640, uid: 1234}, "b": {mode: 0o644, uid: -1}}
	first, err := writeFiles(t.Context(), dir, files, 4321)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string][3]uint32{
		"..data/d/a": {1234, 4321, 0o640}, "..data/b": {0, 4321, 0o644}, "..data/d": {0, 4321, 0o2755}, first: {0, 4321, 0o2755},
	} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, p), &st); err != nil {
			t.Fatal(err)
		}
		if got := [3]uint32{st.Uid, st.Gid, st.Mode & 0o7777}; got != want {
			t.Errorf("%s: %o, want %o", p, got, want)
		}
	}
	if again, err := writeFiles(t.Context(), dir, files, 4321); err != nil || again != first {
		t.Errorf("written again to %s, %v", again, err)
	}
	if other, err := writeFiles(t.Context(), dir, files, 4322); err != nil || other == first {
		t.Errorf("the new group was not written: %v", err)
	}
}

func TestWhatACrashLeftIsCleared(t *testing.T) {
	content := map[string]string{"a": "1", "d/b": "2"}
	for name, crash := range map[string]func(t *testing.T, dir, stamp string){
		"before the swap": func(t *testing.T, dir, _ string) {
			mkdir(t, filepath.Join(dir, "..2026_01_02_03_04_05.678"))
			write(t, filepath.Join(dir, "..2026_01_02_03_04_05.678", "a"), "half")
		},
		"in the swap": func(t *testing.T, dir, _ string) {
			mkdir(t, filepath.Join(dir, "..2026_01_02_03_04_05.678"))
			symlink(t, "..2026_01_02_03_04_05.678", filepath.Join(dir, newDataLink))
		},
		"before the links": func(t *testing.T, dir, _ string) {
			remove(t, filepath.Join(dir, "a"))
			remove(t, filepath.Join(dir, "d"))
		},
		"before old links went": func(t *testing.T, dir, _ string) {
			symlink(t, "..data/gone", filepath.Join(dir, "gone"))
		},
		"the data is gone": func(t *testing.T, dir, stamp string) {
			if err := os.RemoveAll(filepath.Join(dir, stamp)); err != nil {
				t.Fatal(err)
			}
		},
		"a file was cut short": func(t *testing.T, dir, stamp string) {
			write(t, filepath.Join(dir, stamp, "a"), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			crash(t, dir, writeAll(t, dir, text(content)))
			stamp := writeAll(t, dir, text(content))
			if got := shown(t, dir); !maps.Equal(got, content) {
				t.Errorf("shows %q, want %q", got, content)
			}
			want := []string{stamp}
			if name == "in the swap" {
				want = append(want, newDataLink) // until the next swap
			}
			if got := stamps(t, dir); !slices.Equal(got, want) {
				t.Errorf("directories %v, want %v", got, want)
			}
			stamp = writeAll(t, dir, text(map[string]string{"a": "new"}))
			if got := stamps(t, dir); !slices.Equal(got, []string{stamp}) {
				t.Errorf("directories %v after the next change, want only %s", got, stamp)
			}
		})
	}
}

func TestMountPointsAndForeignThingsInAVolumeStay(t *testing.T) {
	dir := t.TempDir()
	mkdir(t, filepath.Join(dir, "mountpoint"))
	symlink(t, "elsewhere", filepath.Join(dir, "link"))
	for _, content := range []string{"1", "2"} {
		writeAll(t, dir, text(map[string]string{"a": content}))
	}
	for _, p := range []string{"mountpoint", "link"} {
		if _, err := os.Lstat(filepath.Join(dir, p)); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// A reader that opens ..data once sees files of one generation.
func TestAReaderSeesOneGeneration(t *testing.T) {
	dir := t.TempDir()
	writeAll(t, dir, text(map[string]string{"a": "0", "b": "0"}))
	stop, done := make(chan struct{}), make(chan struct{})
	seen, mixed := 0, 0
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			root, err := os.OpenRoot(filepath.Join(dir, dataLink))
			if err != nil {
				continue // swapped and removed between two steps of the kernel's walk
			}
			a, errA := root.ReadFile("a")
			b, errB := root.ReadFile("b")
			if errA == nil && errB == nil {
				if seen++; string(a) != string(b) {
					mixed++
				}
			}
			root.Close()
		}
	}()
	for i := range 200 {
		v := strings.Repeat("x", i)
		writeAll(t, dir, text(map[string]string{"a": v, "b": v}))
	}
	close(stop)
	<-done
	if mixed > 0 || seen == 0 {
		t.Errorf("%d of %d reads saw two generations", mixed, seen)
	}
}

func TestPathsThatAreRefused(t *testing.T) {
	for _, files := range []map[string]string{
		{"": ""}, {".": ""}, {"/abs": ""}, {"..": ""}, {"../up": ""}, {"a/../../b": ""}, {"a/../b": ""}, {"a/..": ""},
		{"..data": ""}, {"..data/x": ""}, {"..2026": ""}, {"a//b": ""}, {"a/": ""}, {"./a": ""}, {"a\x00b": ""},
		{"a": "", "a/b": ""}, {"a/b": "", "a/b/c/d": ""}, {strings.Repeat("n", 256): ""},
		{"a/" + strings.Repeat("n", 256) + "/b": ""}, {strings.Repeat("a/", 2048): ""},
		{strings.Repeat("a/", 20_000) + "n": ""}, {"a": "", "a.b": "", "a/b": ""},
		{"/" + strings.Repeat("a/", 2000) + "n": ""}, {"../" + strings.Repeat("a/", 2000) + "n": ""},
	} {
		dir := t.TempDir()
		if _, err := writeFiles(t.Context(), dir, text(files), -1); err == nil || len(err.Error()) > 200 {
			t.Errorf("%q: error %v", files, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%q left %v behind", files, left)
		}
	}
	if _, err := writeFiles(t.Context(), filepath.Join(t.TempDir(), "missing"), nil, -1); err == nil {
		t.Error("a volume that is not there was written")
	}
}

// As many levels as a path can have, and enough files to make each of them
// expensive.
func TestDeepPathsAreWrittenAndKnownAgain(t *testing.T) {
	deep := strings.Repeat("a/", 2046)
	files := map[string]string{"a.b": "beside", "b/a/n": "other"}
	for i := range 10 {
		files[deep+fmt.Sprint(100+i)] = fmt.Sprint(i)
	}
	dir := t.TempDir()
	first := writeAll(t, dir, text(files))
	if again := writeAll(t, dir, text(files)); again != first {
		t.Error("they were written again")
	}
	if got, err := readInVolume(filepath.Join(dir, first), deep+"109", 10); err != nil || string(got) != "9" {
		t.Errorf("%q, %v", got, err)
	}
	if got := directories(text(files)); got != 2046+2 {
		t.Errorf("%d directories", got)
	}
	second := writeAll(t, dir, text(map[string]string{"a": "now"}))
	if left := stamps(t, dir); !slices.Equal(left, []string{second}) {
		t.Errorf("left: %v", left)
	}
}

func TestDirectories(t *testing.T) {
	for _, tt := range []struct {
		paths []string
		want  int
	}{
		{nil, 0}, {[]string{"a", "b"}, 0}, {[]string{"a/b"}, 1}, {[]string{"a/b", "a/c", "ab/c"}, 2},
		{[]string{"a/b/c", "a/bc/d", "a/b.c/d", "a/e"}, 4}, {[]string{"a/b/c/d", "a/x", "b/b/c/d", "a.b/c"}, 7},
	} {
		files := map[string]file{}
		for _, p := range tt.paths {
			files[p] = file{}
		}
		if got := directories(files); got != tt.want {
			t.Errorf("%q: %d directories, want %d", tt.paths, got, tt.want)
		}
	}
}

func TestWritingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	dir := t.TempDir()
	if _, err := writeFiles(ctx, dir, text(map[string]string{"a": "1"}), -1); !errors.Is(err, stopped) {
		t.Errorf("error = %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestNothingIsWrittenThroughLinksOutOfTheVolume(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	symlink(t, outside, filepath.Join(dir, dataLink))
	writeAll(t, dir, text(map[string]string{"a": "1"}))
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("written outside: %v", left)
	}
	if got := shown(t, dir); !maps.Equal(got, map[string]string{"a": "1"}) {
		t.Errorf("shows %q", got)
	}
}

// FuzzWriteFiles: whatever paths are asked for, nothing appears outside of the
// volume, and what is accepted is shown at its path.
func FuzzWriteFiles(f *testing.F) {
	for _, s := range [][2]string{{"a", "b/c"}, {"../x", "a"}, {"..data", "/etc/passwd"}, {"a/./b", "a//b"}, {"a", "a/b"}, {"..2026_01_02_03_04_05.1", ""}, {"a\x00", "é\xff"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "volume")
		mkdir(t, dir)
		content := map[string]string{clean(one): "1", clean(two): "2"}
		_, err := writeFiles(t.Context(), dir, text(content), -1)
		if left, _ := os.ReadDir(outer); len(left) != 1 {
			t.Fatalf("%q, %q: written outside: %v", one, two, left)
		}
		if err != nil {
			return
		}
		if got := shown(t, dir); !maps.Equal(got, content) {
			t.Fatalf("shows %q, want %q", got, content)
		}
		writeAll(t, dir, nil)
		if left, _ := os.ReadDir(dir); len(left) != 2 {
			t.Fatalf("left: %v", left)
		}
	})
}

func mkdir(t *testing.T, p string) {
	t.Helper()
	if err := os.Mkdir(p, 0o755); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, p string) {
	t.Helper()
	if err := os.Symlink(target, p); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, p string) {
	t.Helper()
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
}
