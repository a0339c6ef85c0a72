package tree

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

	"github.com/mini-kubelet/mini-kubelet/test/treetest"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestWalkVisitsEachEntryOnceAndDirectoriesAfterTheirContent(t *testing.T) {
	dir := t.TempDir()
	const directories, files = 70, 700 // more than are open, and more than are read, at once
	at := dir
	for i := range directories {
		at = filepath.Join(at, fmt.Sprint("d", i))
		must(t, os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(at, "beside"), nil, 0o644))
		must(t, os.MkdirAll(filepath.Join(at, "second", "third"), 0o755))
	}
	for i := range files {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("d0/", strings.Repeat("f", 30), i)), nil, 0o644))
	}
	must(t, os.Symlink("/", filepath.Join(dir, "link")))
	visited, left := map[uint64]int{}, map[uint64]bool{}
	err := Walk(t.Context(), opened(t, dir), Visitor{
		Entry: func(dir int, name string) (bool, error) {
			var st, above unix.Stat_t
			must(t, unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW), unix.Fstat(dir, &above))
			visited[st.Ino]++
			if left[above.Ino] {
				t.Errorf("%s is visited after its directory was left", name)
			}
			return true, nil // even if it is not a directory: Walk finds out
		},
		Leave: func(dir int, _ bool) (bool, error) {
			var st unix.Stat_t
			must(t, unix.Fstat(dir, &st))
			left[st.Ino] = true
			return false, nil
		},
	})
	if want := 4*directories + files + 1; err != nil || len(visited) != want {
		t.Errorf("visited %d, %v; want %d", len(visited), err, want)
	}
	for inode, times := range visited {
		if times != 1 {
			t.Errorf("inode %d was visited %d times", inode, times)
		}
	}
	if want := 3*directories + 1; len(left) != want {
		t.Errorf("left %d directories, want %d", len(left), want)
	}
}

func TestWalkEntersNoMount(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "other"), 0o755), os.Mkdir(filepath.Join(dir, "same"), 0o755),
		os.WriteFile(filepath.Join(outside, "f"), nil, 0o644))
	treetest.MountTmpfs(t, filepath.Join(dir, "other"))
	must(t, os.WriteFile(filepath.Join(dir, "other", "f"), nil, 0o644))
	treetest.Bind(t, outside, filepath.Join(dir, "same"))
	var names []string
	must(t, Walk(t.Context(), opened(t, dir), Visitor{Entry: func(_ int, name string) (bool, error) {
		names = append(names, name)
		return true, nil
	}}))
	if len(names) != 2 {
		t.Errorf("visited %q", names)
	}
}

// A container can make as many levels as it likes, and must not exhaust the agent's
// descriptors that way.
func TestWalkOfManyLevelsHasFewDirectoriesOpen(t *testing.T) {
	for levels, want := range map[int]error{maxDepth: nil, maxDepth + 1: ErrTooDeep, 10_000: ErrTooDeep} {
		t.Run(fmt.Sprint(levels), func(t *testing.T) {
			dir := t.TempDir()
			treetest.MountTmpfs(t, dir) // a disk would be slow
			top := filepath.Join(dir, "top")
			must(t, os.Mkdir(top, 0o755))
			treetest.Deep(t, top, levels)
			entered, left, most := 0, 0, 0
			err := Walk(t.Context(), opened(t, top), Visitor{
				Entry: func(fd int, _ string) (bool, error) {
					entered, most = entered+1, max(most, fd)
					return true, nil
				},
				Leave: func(int, bool) (bool, error) { left++; return false, nil },
			})
			if !errors.Is(err, want) {
				t.Errorf("error = %v, want %v", err, want)
			}
			if want == nil && (entered != levels || left != levels+1) {
				t.Errorf("entered %d directories and left %d, want %d", entered, left, levels)
			}
			if want != nil && (entered != maxDepth+1 || left != 0 || len(err.Error()) > 300) {
				t.Errorf("entered %d directories, left %d, and then: %v", entered, left, err)
			}
			if most > 4*maxOpen {
				t.Errorf("descriptor %d was in use", most)
			}
			must(t, Remove(t.Context(), dir, "top"))
		})
	}
}

// Three short chains of directories hang below each other. Whenever the walk reaches the
// end of one, the chain above it is moved below the lowest: the walk would go down for
// ever, and remember everything it passed.
func TestWalkEndsWhereWhatItPassedIsMovedBelowIt(t *testing.T) {
	dir := t.TempDir()
	root := opened(t, dir)
	const chains, levels = 3, 100
	var tails [chains]int
	var order []int // of the chains, from the root down
	for i := range chains {
		tail := filepath.Join(dir, fmt.Sprint("top", i), strings.Repeat("d/", levels), fmt.Sprint("tail", i))
		must(t, os.MkdirAll(tail, 0o755))
		fd, err := unix.Open(tail, unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		tails[i], order = fd, append(order, i)
	}
	move := func(chain, from, to int) error {
		return unix.Renameat(from, fmt.Sprint("top", chain), to, fmt.Sprint("top", chain))
	}
	must(t, move(1, int(root.Fd()), tails[0]), move(2, int(root.Fd()), tails[1]))
	moves := 0
	err := Walk(t.Context(), root, Visitor{Entry: func(_ int, name string) (bool, error) {
		if moves > maxDepth {
			return false, errors.New("it goes on for ever")
		}
		up, here := order[0], order[1]
		if name != fmt.Sprint("tail", here) {
			return true, nil
		}
		moves++
		order = append(order[1:], up)
		return true, errors.Join(move(here, tails[up], int(root.Fd())), move(up, int(root.Fd()), tails[order[chains-2]]))
	}})
	if !errors.Is(err, ErrTooDeep) || moves < maxDepth/levels/2 {
		t.Errorf("after %d moves: %v", moves, err)
	}
}

// A container may move directories that are being walked, even above those that are
// open.
func TestWalkEndsWhereDirectoriesAreMoved(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	low := dir
	for range 3 * maxOpen {
		low = filepath.Join(low, "d")
	}
	must(t, os.MkdirAll(low, 0o755), os.MkdirAll(filepath.Join(dir, "e/d"), 0o755), os.WriteFile(filepath.Join(outside, "f"), nil, 0o644))
	mid := filepath.Join(dir, "d/d/d/d/d/d")
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	treetest.Exchange(t, mid, filepath.Join(dir, "e/d"))
	treetest.Exchange(t, filepath.Join(dir, "e"), filepath.Join(dir, "link"))
	for start := time.Now(); time.Since(start) < time.Second; {
		must(t, Walk(t.Context(), opened(t, dir), Visitor{Entry: func(fd int, name string) (bool, error) {
			if name == "f" {
				return false, errors.New("outside")
			}
			return true, nil
		}}))
	}
}

func TestWalkEndsWithItsContextAndNamesTheEntryThatFailed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
	failed := errors.New("no")
	err := Walk(t.Context(), opened(t, dir), Visitor{Entry: func(_ int, name string) (bool, error) {
		if name == "c" {
			return false, failed
		}
		return true, nil
	}})
	if !errors.Is(err, failed) || err.Error() != filepath.Join(dir, "a/b/c")+": no" {
		t.Errorf("error = %v", err)
	}

	for what, do := range map[string]func(fd int, name, other string) error{
		"another one is made for each that is seen": func(fd int, _, other string) error {
			return unix.Mknodat(fd, other, unix.S_IFREG|0o644, 0)
		},
		"each that is seen gets another name": func(fd int, name, other string) error {
			return unix.Renameat(fd, name, fd, other)
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		dir, n := t.TempDir(), 0
		must(t, os.WriteFile(filepath.Join(dir, "first"), nil, 0o644))
		err := Walk(ctx, opened(t, dir), Visitor{
			Entry: func(fd int, name string) (bool, error) {
				if n++; n == 5000 {
					cancel(failed)
				}
				return false, do(fd, name, fmt.Sprint(n))
			},
			// Not every file system shows entries added while it was being read.
			Leave: func(_ int, seen bool) (bool, error) { return seen, nil },
		})
		if !errors.Is(err, failed) || n != 5000 {
			t.Errorf("%s: after %d entries: %v", what, n, err)
		}
	}
}
