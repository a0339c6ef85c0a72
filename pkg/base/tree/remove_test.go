package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/treetest"
)

func TestRemoveRemovesAnyDepthAndWidth(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	must(t, os.Mkdir(tree, 0o755), unix.Mkfifo(filepath.Join(tree, "pipe"), 0o644))
	treetest.Deep(t, tree, 3000) // far more than path names reach
	for i := range 1000 {
		must(t, os.MkdirAll(filepath.Join(tree, fmt.Sprint("d", i), "e/f"), 0), os.WriteFile(filepath.Join(tree, fmt.Sprint("f", i)), nil, 0))
	}
	for range 2 {
		must(t, Remove(t.Context(), dir, "tree"))
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Deeper levels than a removal remembers are removed in several descents.
func TestRemoveRemovesWhatIsDeeperThanItRemembers(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
	treetest.Deep(t, filepath.Join(dir, "tree"), 3000)
	must(t, (&remover{levels: 500}).remove(t.Context(), opened(t, dir), "tree"))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestRemoveOfWhatIsNoDirectoryOrMissing(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644), os.Symlink(dir, filepath.Join(dir, "l")))
	must(t, Remove(t.Context(), dir, "f"), Remove(t.Context(), dir, "l"), Remove(t.Context(), filepath.Join(dir, "none"), "x"))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../x", "/"} {
		if err := Remove(t.Context(), dir, name); err == nil || !strings.Contains(err.Error(), "not a file name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRemoveFollowsNoLink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	must(t, os.WriteFile(precious, nil, 0o644), os.Mkdir(filepath.Join(dir, "tree"), 0o755), os.Symlink(outside, filepath.Join(dir, "tree", "link")))
	must(t, Remove(t.Context(), dir, "tree"))
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("data behind a link was lost: %v", err)
	}
}

func TestRemoveIsSafeAgainstWhoeverExchangesDirectoriesForLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "sub", "precious")
	must(t, os.MkdirAll(filepath.Dir(precious), 0o755), os.WriteFile(precious, nil, 0o644))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(outside, link))
	for round := range 300 {
		tree := filepath.Join(dir, "tree")
		for _, d := range []string{"a/sub/x", "b/sub/x"} {
			must(t, os.MkdirAll(filepath.Join(tree, d), 0o755))
		}
		stop := treetest.Exchange(t, filepath.Join(tree, "a"), link)
		// It may find the link in place of the directory, which is then beside it.
		err := Remove(t.Context(), dir, "tree")
		stop()
		must(t, err, Remove(t.Context(), dir, "tree"))
		if _, err := os.Stat(precious); err != nil {
			t.Fatalf("round %d: data behind a link was lost: %v", round, err)
		}
		must(t, Remove(t.Context(), dir, "link"), os.Symlink(outside, link))
	}
}

// The folk remedy "rm -rf pods/<uid>" has cost people their databases
// (kubernetes#60987); ours must stop at whatever is mounted.
func TestRemoveStopsAtMounts(t *testing.T) {
	for name, mount := range map[string]func(t *testing.T, outside, at string){
		"tmpfs": func(t *testing.T, _, at string) { treetest.MountTmpfs(t, at) },
		"bind mount of the same file system": func(t *testing.T, outside, at string) {
			treetest.Bind(t, outside, at)
		},
	} {
		for _, below := range []string{"tree", "tree/mnt", "tree/a/mnt"} {
			t.Run(name+" at "+below, func(t *testing.T) {
				dir := t.TempDir()
				at := filepath.Join(dir, below)
				must(t, os.MkdirAll(at, 0o755))
				mount(t, t.TempDir(), at)
				precious := filepath.Join(at, "precious")
				must(t, os.WriteFile(precious, nil, 0o644))
				err := Remove(t.Context(), dir, "tree")
				if want := "remove " + at + ": something is mounted there"; err == nil || err.Error() != want {
					t.Errorf("error = %v, want %s", err, want)
				}
				if _, err := os.Stat(precious); err != nil {
					t.Errorf("mounted data was lost: %v", err)
				}
			})
		}
	}
	t.Run("a file that is mounted over", func(t *testing.T) {
		dir := t.TempDir()
		at, over := filepath.Join(dir, "tree", "f"), filepath.Join(dir, "precious")
		must(t, os.Mkdir(filepath.Dir(at), 0o755), os.WriteFile(at, nil, 0o644), os.WriteFile(over, nil, 0o644))
		treetest.Bind(t, over, at)
		if err := Remove(t.Context(), dir, "tree"); err == nil || !strings.Contains(err.Error(), at+": something is mounted there") {
			t.Errorf("error = %v", err)
		}
	})
}

func TestRemoveEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "tree", "a"), 0o755))
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	if err := Remove(ctx, dir, "tree"); !errors.Is(err, stopped) {
		t.Errorf("error = %v", err)
	}
}
