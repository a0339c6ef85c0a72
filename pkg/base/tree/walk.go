// Package tree walks and removes directory trees that others write to meanwhile:
// volumes, of which a container may exchange a directory for a link at any moment.
//
// Every step leads from an open directory to an entry of it, by openat2: the kernel
// refuses links and whatever is mounted below. No path is looked up twice, none is
// longer than a name, and a tree of any depth costs bounded descriptors and memory.
// It needs Linux 5.6: an older kernel answers each call with ENOSYS, and nothing is
// walked or removed there.
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

// maxDepth is how many levels below the root Walk goes. What works with path names makes
// and finds half as many, as PATH_MAX is 4096 bytes and a level takes two. Without a bound
// a container leads the walk down for ever, by moving what it has passed below it.
const maxDepth = 4096

// ErrTooDeep is that of a tree with more levels than Walk goes down, or of one that looks
// so because directories are moved about in it.
var ErrTooDeep = fmt.Errorf("more than %d directories below each other", maxDepth)

// Visitor is what is done with what a walk comes across. An error of it ends the walk.
type Visitor struct {
	// Entry sees an entry of an open directory, by its name: the one who calls looks for
	// itself what that is, and it may be something else a moment later. Those that it
	// says to enter are entered if they are directories then.
	Entry func(dir int, name string) (enter bool, err error)
	// Leave sees an open directory after all that is in it, the root as the last one;
	// seen says whether there was anything. It may ask for the directory to be read
	// again. nil is for walks that do nothing then.
	Leave func(dir int, seen bool) (again bool, err error)
}

// Walk visits all that is below root, an open directory, until ctx ends: who writes to a
// directory while it is read can have it never end otherwise. It enters no mount, and
// ends with ErrTooDeep where directories are deeper than any path name leads. What goes
// away meanwhile is not visited, and what is moved about may be missed.
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
	mounted func(path string) error // is called for a mount, which is not entered
	levels  int                     // below the root that are walked, or remembered
	forget  bool                    // the upper ones rather than end with ErrTooDeep

	open   []*directory // the root, then the deepest ones
	closed []place      // those between, uppermost first
	spare  []byte       // of a directory that was left, for the next
}

func (w *walk) close() {
	for _, d := range w.open {
		unix.Close(d.fd)
	}
}

// step visits the next entry of the deepest directory, or leaves that.
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
	// The one above was closed. A container may have moved this one: what is above it now
	// is walked on only if it is the same, and else the walk goes on at the root.
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

// path is for messages.
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

// OpenPlace opens an entry of a directory as a place (O_PATH), a link as the link: it
// does nothing to pipes and devices. What is mounted is refused with EXDEV.
func OpenPlace(dir int, name string) (int, error) { return open(dir, name, unix.O_PATH) }

// open takes a name that a directory was read with, or "." or "..". RESOLVE_BENEATH
// would add nothing to one name, but has EXDEV mean a directory as well that is moved
// away at that moment.
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

// Gone reports whether an error is that of what is no longer there as what it was.
func Gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
