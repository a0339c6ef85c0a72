// Package tree walks and removes directory trees that others write to meanwhile:
// volumes, in which a container may replace a directory with a link at any moment.
//
// Every step leads from an open directory to one of its entries, by openat2: the
// kernel refuses links and mounts. No path is looked up twice, none is longer than
// a name, and a tree of any depth costs bounded descriptors and memory. It needs
// Linux 5.6: an older kernel answers each call with ENOSYS, and nothing is walked
// or removed there.
package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// maxOpen is how many directories of a walk are open at once.
const maxOpen = 64

// maxDepth is how many levels below the root Walk goes. Programs that use path names make
// and find half as many, since PATH_MAX is 4096 bytes and a level takes two. Without a
// limit a container can lead the walk down for ever, by moving directories it has passed
// below it.
const maxDepth = 4096

// ErrTooDeep is returned for a tree with more levels than Walk goes down, or one that
// looks so because directories are moved about in it.
var ErrTooDeep = fmt.Errorf("more than %d directories below each other", maxDepth)

// Visitor says what to do with what a walk finds. An error from it ends the walk.
type Visitor struct {
	// Entry is called with an entry of an open directory, by name: it must look for
	// itself what the entry is, and that may be different a moment later. An entry for
	// which it returns true is entered if it is a directory then.
	Entry func(dir int, name string) (enter bool, err error)
	// Leave is called with an open directory after everything in it, the root last;
	// seen reports whether there was anything. It may ask for the directory to be read
	// again. nil is for walks that do nothing here.
	Leave func(dir int, seen bool) (again bool, err error)
}

// Walk visits everything below root, an open directory, until ctx ends: somebody who
// writes to a directory while it is read can make it endless. It enters no mount, and
// ends with ErrTooDeep if directories are deeper than any path name can be. Entries that
// disappear meanwhile are not visited, and entries that are moved may be missed.
func Walk(ctx context.Context, root *os.File, v Visitor) error {
	w := &walk{visitor: v, mounted: func(string) error { return nil }, levels: maxDepth}
	return w.from(ctx, root)
}

func (w *walk) from(ctx context.Context, root *os.File) error {
	fd, err := openDirectory(int(root.Fd()), ".")
	if err != nil {
		return fmt.Errorf("open %s: %w", root.Name(), err)
	}
	w.open = []*directory{{fd: fd, name: root.Name()}}
	defer w.close()
	for len(w.open) > 0 {
		if ctx.Err() != nil {
			return fmt.Errorf("walk %s: %w", root.Name(), context.Cause(ctx))
		}
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

type walk struct {
	visitor Visitor
	mounted func(path string) error // called for a mount, which is not entered
	levels  int                     // levels below the root that are walked, or remembered
	forget  bool                    // forget the upper levels rather than end with ErrTooDeep

	open   []*directory // the root, then the deepest directories
	closed []place      // those in between, uppermost first
	spare  []byte       // buffer of a directory that was left, for the next
}

func (w *walk) close() {
	for _, d := range w.open {
		unix.Close(d.fd)
	}
}

// step visits the next entry of the deepest directory, or leaves that directory.
func (w *walk) step() error {
	d := w.open[len(w.open)-1]
	name, err := d.next()
	if err != nil {
		return fmt.Errorf("read %s: %w", w.path(""), err)
	}
	if name == "" {
		return w.leave(d)
	}
	enter, err := w.visitor.Entry(d.fd, name)
	if err != nil {
		return fmt.Errorf("%s: %w", w.path(name), err)
	}
	if !enter {
		return nil
	}
	fd, err := openDirectory(d.fd, name)
	switch {
	case errors.Is(err, unix.EXDEV):
		return w.mounted(w.path(name))
	case Gone(err):
		return nil
	case err != nil:
		return fmt.Errorf("open %s: %w", w.path(name), err)
	}
	w.open = append(w.open, &directory{fd: fd, name: name, buf: w.spare})
	w.spare = nil
	if !w.forget && len(w.open)-1+len(w.closed) > w.levels {
		return fmt.Errorf("%s: %w", w.path(""), ErrTooDeep)
	}
	if len(w.open) <= maxOpen {
		return nil
	}
	p, err := w.open[1].place()
	if err != nil {
		return fmt.Errorf("stat a directory above %s: %w", w.path(""), err)
	}
	unix.Close(w.open[1].fd)
	w.closed = append(w.closed, p)
	w.open = slices.Delete(w.open, 1, 2)
	if len(w.closed) > w.levels { // the walk will go on at the root, as after a move
		w.closed = slices.Delete(w.closed, 0, len(w.closed)/2)
	}
	return nil
}

func (w *walk) leave(d *directory) error {
	if w.visitor.Leave != nil {
		again, err := w.visitor.Leave(d.fd, d.seen)
		if err != nil {
			return fmt.Errorf("%s: %w", w.path(""), err)
		}
		if again {
			return d.again()
		}
	}
	w.open, w.spare = w.open[:len(w.open)-1], d.buf
	defer unix.Close(d.fd)
	if len(w.open) != 1 || len(w.closed) == 0 {
		return nil
	}
	// The one above was closed. A container may have moved this one: if the directory
	// above it now is not the same, the walk goes on at the root.
	p := w.closed[len(w.closed)-1]
	w.closed = w.closed[:len(w.closed)-1]
	fd, err := open(d.fd, "..", unix.O_RDONLY|unix.O_DIRECTORY)
	if Gone(err) || errors.Is(err, unix.EXDEV) {
		w.closed = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the directory above %s: %w", w.path(""), err)
	}
	up := &directory{fd: fd, name: "..."}
	w.open = append(w.open, up)
	now, err := up.place()
	if err != nil {
		return fmt.Errorf("stat %s: %w", w.path(""), err)
	}
	if now.device != p.device || now.inode != p.inode {
		w.open = w.open[:1]
		w.closed = nil
		return unix.Close(fd)
	}
	return up.goOn(p)
}

// maxNamed is how many directories a message names.
const maxNamed = 8

// path names an entry in messages.
func (w *walk) path(name string) string {
	p, below := w.open[0].name, w.open[1:]
	if len(w.closed) > 0 || len(below) > maxNamed {
		p = filepath.Join(p, "...")
	}
	for _, d := range below[max(0, len(below)-maxNamed):] {
		p = filepath.Join(p, d.name)
	}
	return filepath.Join(p, name)
}

// openDirectory opens an entry of a directory for reading, if it is a directory and
// nothing is mounted there (EXDEV).
func openDirectory(dir int, name string) (int, error) {
	return open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// OpenPlace opens an entry of a directory with O_PATH, a link as the link: this does
// nothing to pipes and devices. A mount is refused with EXDEV.
func OpenPlace(dir int, name string) (int, error) { return open(dir, name, unix.O_PATH) }

// open takes a name read from the directory, or "." or "..". RESOLVE_BENEATH would
// add nothing for a single name, but would make EXDEV also mean a directory that is
// being moved away at that moment.
func open(dir int, name string, flags uint64) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
		})
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// Gone reports whether an error means that the entry no longer exists or is of
// another type.
func Gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
