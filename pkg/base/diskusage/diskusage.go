// Package diskusage measures what directories occupy on disk, by walking them. It
// is for directories that containers write to: they may hold anything, change
// during the walk, and be as large as they like.
package diskusage

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
)

// Usage is what a directory and everything in it occupy: blocks, not lengths of
// files.
type Usage struct{ Bytes, Inodes uint64 }

// longest is how long a measurement takes at most: a container that makes files faster
// than they are counted would make one last for ever, and others wait for their turn.
const longest = 2 * time.Minute

// Of measures the file or directory at path until ctx ends, but no longer than two
// minutes. It follows no link and enters no mount, at any depth; a file with several names
// counts once. Entries that disappear meanwhile do not count, but path itself has to
// exist.
//
// With an error it returns what was counted so far. The error is context.DeadlineExceeded
// after the two minutes, and tree.ErrTooDeep if somebody seems to hide from being
// measured.
func Of(ctx context.Context, path string) (Usage, error) { return within(ctx, longest, path) }

func within(ctx context.Context, d time.Duration, path string) (Usage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("not done in %v: %w", d, context.DeadlineExceeded))
	defer cancel()
	u, err := of(ctx, path)
	if err != nil {
		return u, fmt.Errorf("measure %s: %w", path, err)
	}
	return u, nil
}

// Rest is how long to wait before repeating a measurement that took that long: a
// little less than the ten seconds between two looks at what pods use (the
// kubelet's), or so long that walking takes at most a twentieth of the time.
func Rest(took time.Duration) time.Duration { return max(9*time.Second, 20*took) }

func of(ctx context.Context, path string) (Usage, error) {
	// With O_PATH: opening a pipe would wait.
	root, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Usage{}, err
	}
	defer root.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return Usage{}, err
	}
	c := counter{device: st.Dev, seen: map[uint64]bool{}}
	if !c.count(&st) {
		return c.used, nil
	}
	err = tree.Walk(ctx, root, tree.Visitor{Entry: c.entry})
	return c.used, err
}

type counter struct {
	device uint64
	seen   map[uint64]bool // inodes with several names
	used   Usage
}

func (c *counter) entry(dir int, name string) (enter bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if tree.Gone(err) {
		return false, nil
	}
	if err != nil || st.Dev != c.device {
		return false, err
	}
	return c.count(&st), nil
}

// count counts a file, once, and reports whether it is a directory.
func (c *counter) count(st *unix.Stat_t) (directory bool) {
	directory = st.Mode&unix.S_IFMT == unix.S_IFDIR
	if st.Nlink > 1 && !directory {
		if c.seen[st.Ino] {
			return false
		}
		c.seen[st.Ino] = true
	}
	c.used.Bytes += uint64(st.Blocks) * 512
	c.used.Inodes++
	return directory
}
