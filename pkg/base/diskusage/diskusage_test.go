package diskusage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/test/treetest"
)

// fill writes n bytes that take up space.
func fill(t *testing.T, path string, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", n)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestOf(t *testing.T) {
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		make      func(t *testing.T, dir string)
		mebibytes uint64 // rounded down: directories take up space, too
		inodes    uint64
		measured  string // of dir; empty: all of it
	}{
		"nothing":            {make: func(*testing.T, string) {}, inodes: 1},
		"files at any depth": {make: func(t *testing.T, dir string) { fill(t, dir+"/a/b/c", mib); fill(t, dir+"/d", mib) }, mebibytes: 2, inodes: 5},
		"a file by itself":   {make: func(t *testing.T, dir string) { fill(t, dir+"/f", mib) }, mebibytes: 1, inodes: 1, measured: "f"},
		"a file of two names counts once": {make: func(t *testing.T, dir string) {
			fill(t, dir+"/f", mib)
			must(t, os.Link(dir+"/f", dir+"/g"))
		}, mebibytes: 1, inodes: 2},
		"a hole takes up no room": {make: func(t *testing.T, dir string) {
			fill(t, dir+"/f", 1)
			must(t, os.Truncate(dir+"/f", 64*mib))
		}, inodes: 2},
		"a link leads nowhere": {make: func(t *testing.T, dir string) {
			fill(t, t.TempDir()+"/outside", mib)
			must(t, os.Symlink("/", dir+"/root"))
		}, inodes: 2},
		"a pipe that nobody writes to is not opened": {make: func(t *testing.T, dir string) {
			must(t, unix.Mkfifo(dir+"/pipe", 0o644))
		}, inodes: 2},
		"more files than are read at once": {make: func(t *testing.T, dir string) {
			for i := range 2049 {
				fill(t, fmt.Sprintf("%s/%d", dir, i), 0)
			}
		}, inodes: 2050},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tc.make(t, dir)
			got, err := Of(t.Context(), filepath.Join(dir, tc.measured))
			if err != nil || got.Bytes/mib != tc.mebibytes || got.Inodes != tc.inodes {
				t.Errorf("%+v, %v; want %d MiB, %d inodes", got, err, tc.mebibytes, tc.inodes)
			}
		})
	}
}

// A path can be longer than the kernel accepts at once: the pod that makes one must
// not escape being measured, or at least be reported as hiding.
func TestWhatLiesDeepIsMeasuredOrTooDeep(t *testing.T) {
	for levels, want := range map[int]error{4000: nil, 5000: tree.ErrTooDeep} {
		dir := t.TempDir()
		treetest.Deep(t, dir, levels)
		t.Cleanup(func() { must(t, tree.Remove(context.Background(), filepath.Dir(dir), filepath.Base(dir))) }) // t.TempDir cannot
		got, err := Of(t.Context(), dir)
		if !errors.Is(err, want) || want == nil && got.Inodes != uint64(levels)+1 {
			t.Errorf("%d levels: %+v, %v; want %v", levels, got, err, want)
		}
	}
}

func TestOfIsSafeAgainstAContainerThatExchangesDirectoriesForLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	fill(t, dir+"/d/f", 1)
	fill(t, outside+"/sub/large", 4<<20)
	must(t, os.Symlink(outside, dir+"/l"))
	treetest.Exchange(t, dir+"/d", dir+"/l")
	for start := time.Now(); time.Since(start) < time.Second; {
		if got, err := Of(t.Context(), dir); err != nil || got.Bytes >= 4<<20 || got.Inodes > 6 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

func TestWhatIsMountedIsNotCountedEvenOfTheSameFileSystem(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	fill(t, outside+"/sub/large", 4<<20)
	must(t, os.Mkdir(dir+"/mounted", 0o755))
	treetest.Bind(t, outside, dir+"/mounted")
	if got, err := Of(t.Context(), dir); err != nil || got.Bytes >= 4<<20 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOtherFileSystemsAreNotEntered(t *testing.T) {
	dir := t.TempDir()
	mounted := filepath.Join(dir, "mounted")
	must(t, os.Mkdir(mounted, 0o755))
	if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("needs the right to mount: ", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(mounted, 0)) })
	fill(t, mounted+"/f", 2<<20)
	if got, err := Of(t.Context(), dir); err != nil || got.Bytes >= 1<<20 || got.Inodes != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Of(t.Context(), mounted); err != nil || got.Bytes < 2<<20 {
		t.Errorf("the mounted one %+v, %v", got, err)
	}
}

func TestOfEndsWithItsContextAndNamesWhatIsMissing(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := Of(ended, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	dir := t.TempDir()
	u, err := within(t.Context(), time.Nanosecond, dir)
	if want := "measure " + dir + ": walk " + dir + ": not done in 1ns: context deadline exceeded"; !errors.Is(err, context.DeadlineExceeded) || err.Error() != want {
		t.Errorf("after its time: %v, want %s", err, want)
	}
	if u.Inodes != 1 {
		t.Errorf("counted until then: %+v", u)
	}
	if _, err := Of(t.Context(), "/no/such"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("of nothing: %v", err)
	}
}

func TestRest(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: 9 * time.Second, 100 * time.Millisecond: 9 * time.Second, time.Minute: 20 * time.Minute,
	} {
		if got := Rest(took); got != want {
			t.Errorf("after %v a rest of %v, want %v", took, got, want)
		}
	}
}
