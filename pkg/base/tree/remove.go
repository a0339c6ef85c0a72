package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Remove removes an entry of a directory and everything below it, at any depth, until ctx
// ends. It never removes what is mounted there or what links point to: a mount is an
// error that names it. A missing entry or directory is fine. Links in the path of the
// directory itself are followed: it has to be one that only root can replace.
func Remove(ctx context.Context, dir, name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return fmt.Errorf("remove %q of %s: it is not a file name", name, dir)
	}
	parent, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", filepath.Join(dir, name), err)
	}
	defer parent.Close()
	if err := (&remover{levels: maxRemembered}).remove(ctx, parent, name); err != nil {
		return fmt.Errorf("remove %w", err)
	}
	return nil
}

var errMounted = errors.New("something is mounted there")

// maxIdle is how many directories in a row may be left without removing anything: if
// all goes well, it is two readings of one.
const maxIdle = 16

// maxRemembered is how many levels a removal can find its way back up, at 32 bytes each. In
// a deeper tree the upper ones are left for the next descent from the root: ErrTooDeep
// would leave the tree on the disk for good, and without a limit a container could make the
// agent use gigabytes by what it leaves behind.
const maxRemembered = 1 << 20

type remover struct{ idle, levels int }

func (r *remover) remove(ctx context.Context, parent *os.File, name string) error {
	full := filepath.Join(parent.Name(), name)
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", full, context.Cause(ctx))
		}
		enter, err := r.entry(int(parent.Fd()), name)
		if err != nil {
			return fmt.Errorf("%s: %w", full, err)
		}
		if !enter {
			return nil
		}
		fd, err := openDirectory(int(parent.Fd()), name)
		switch {
		case errors.Is(err, unix.EXDEV):
			return fmt.Errorf("%s: %w", full, errMounted)
		case Gone(err):
			continue
		case err != nil:
			return fmt.Errorf("%s: %w", full, err)
		}
		top := os.NewFile(uintptr(fd), full)
		w := &walk{visitor: Visitor{Entry: r.entry, Leave: r.leave}, levels: r.levels, forget: true}
		w.mounted = func(path string) error { return fmt.Errorf("%s: %w", path, errMounted) }
		err = w.from(ctx, top)
		if err = errors.Join(err, top.Close()); err != nil {
			return err
		}
	}
}

// entry removes a file or an empty directory, and has other directories entered.
func (r *remover) entry(dir int, name string) (enter bool, err error) {
	err = unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EISDIR) {
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		r.idle = 0
		return false, nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTDIR):
		return true, nil // ENOTDIR: it was replaced just now
	case errors.Is(err, unix.EBUSY):
		return false, errMounted
	}
	return false, err
}

// leave has a directory read again until it is empty: removing entries while
// reading may hide others, and directories that were entered are empty only now.
func (r *remover) leave(_ int, seen bool) (again bool, err error) {
	if r.idle++; r.idle > maxIdle {
		return false, unix.ENOTEMPTY
	}
	return seen, nil
}
