package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth is how many directories are held open at once. Deeper ones are moved
// up first: a container may have made any number of levels.
const maxDepth = 100

// removeTree removes dir/name and all below it, and never what is mounted there
// nor what links point to: every step goes from an open directory to an entry of
// it, and the kernel refuses to cross into a mount. A missing entry is fine.
func removeTree(dir, name string) error {
	parent, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_RDONLY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(parent)
	r := remover{top: parent, topName: dir}
	for {
		if err := r.entry(parent, dir, name, 0); err != nil {
			return err
		}
		if len(r.moved) == 0 {
			return nil
		}
		name, r.moved = r.moved[0], r.moved[1:]
	}
}

type remover struct {
	top     int // directory that too deep ones are moved to
	topName string
	moved   []string
	count   int
}

func (r *remover) entry(parent int, path, name string, depth int) error {
	full := filepath.Join(path, name)
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("remove %s: %w", full, err)
	}
	dir, err := unix.Openat2(parent, name, &unix.OpenHow{
		Flags:   unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_RDONLY,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("remove %s: something is mounted there", full)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", full, err)
	}
	if err := r.content(dir, full, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", full, err)
	}
	return nil
}

// content empties the directory and closes it.
func (r *remover) content(fd int, path string, depth int) error {
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	// Entries removed while reading may hide others, so one reading is not
	// enough: done is a fresh one that shows nothing.
	for fresh := true; ; {
		names, err := dir.Readdirnames(256)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if len(names) == 0 {
			if fresh {
				return nil
			}
			if _, err := dir.Seek(0, io.SeekStart); err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			fresh = true
			continue
		}
		fresh = false
		for _, name := range names {
			if err := r.below(fd, path, name, depth); err != nil {
				return err
			}
		}
	}
}

func (r *remover) below(fd int, path, name string, depth int) error {
	if depth >= maxDepth {
		return r.up(fd, path, name)
	}
	return r.entry(fd, path, name, depth+1)
}

// up moves an entry to the top, to be removed from there.
func (r *remover) up(fd int, path, name string) error {
	r.count++
	to := ".removing-" + strconv.Itoa(r.count)
	if err := unix.Renameat2(fd, name, r.top, to, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("move %s to %s: %w", filepath.Join(path, name), filepath.Join(r.topName, to), err)
	}
	r.moved = append(r.moved, to)
	return nil
}
