// Package du measures what directories occupy on disk, by walking them. It is for
// directories that containers write to: they may hold anything, change under the
// walk, and be as large as they like.
package du

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a directory and all in it occupy: blocks, not lengths of files.
type Usage struct{ Bytes, Inodes uint64 }

const (
	// batch is how many names of a directory are held in memory.
	batch = 1024
	// deepest is how far down a walk goes: each level costs an open file. What is
	// below does not count. The kubelet gives up at paths of 4 KiB.
	deepest = 2048
)

// Of measures the file or directory at path until ctx ends. It follows no link and
// enters no other file system; a file of several names counts once. What goes away
// meanwhile does not count, but path itself has to be there.
func Of(ctx context.Context, path string) (Usage, error) {
	w := walk{ctx: ctx, seen: map[uint64]bool{}}
	var st unix.Stat_t
	err := unix.Fstatat(unix.AT_FDCWD, path, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		w.device = st.Dev
		err = w.visit(unix.AT_FDCWD, path, 0)
	}
	if err != nil {
		return Usage{}, fmt.Errorf("measure %s: %w", path, err)
	}
	return w.used, nil
}

// Rest is how long not to measure again what took so long to measure: a little less
// than the ten seconds between two looks at what pods use (the kubelet's), or so long
// that walking takes at most a twentieth of the time.
func Rest(took time.Duration) time.Duration { return max(9*time.Second, 20*took) }

type walk struct {
	ctx    context.Context
	device uint64
	seen   map[uint64]bool // inodes with several names
	used   Usage
}

// visit counts the entry of a directory, and what is below it.
func (w *walk) visit(parent int, name string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return unlessGone(err)
	}
	directory := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case st.Dev != w.device:
		return nil
	case st.Nlink > 1 && !directory:
		if w.seen[st.Ino] {
			return nil
		}
		w.seen[st.Ino] = true
	}
	w.used.Bytes += uint64(st.Blocks) * 512
	w.used.Inodes++
	if !directory || depth == deepest {
		return nil
	}
	// Opened below its parent and as a directory: a container that puts a link or a
	// pipe in its place leads nowhere.
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return unlessGone(err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(batch)
		for _, n := range names {
			if err := w.visit(fd, n, depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unlessGone(err)
		}
	}
}

// unlessGone is nil for the error of what is no longer there as what it was.
func unlessGone(err error) error {
	for _, gone := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}
