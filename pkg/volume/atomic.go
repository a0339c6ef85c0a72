package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
)

// file is one file that the node writes into a volume.
type file struct {
	data []byte
	mode os.FileMode // permission bits, whatever the umask
	uid  int         // -1: root
}

// Names in a volume that belong to the node: no name of a pod begins like this.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	stampLayout = "..2006_01_02_15_04_05."
)

// writeFiles makes dir show these files and nothing else; paths are clean.
// A reader sees all of the old ones or all of the new ones:
//
//	dir/key  ─▶ ..data/key                   a link for each first element of a path
//	dir/..data ─▶ ..2026_01_02_03_04_05.6789 replaced by a rename
//	dir/..2026_01_02_03_04_05.6789/key       the files, never written to again
//
// It returns the name of that last directory, a new one only if the files differ.
// gid -1 is root's. Leftovers of a crash in earlier calls are removed. Nothing is
// written outside of dir, whatever links it holds. The cost grows with the length of
// the paths, and ctx can end the call between files.
func writeFiles(ctx context.Context, dir string, files map[string]file, gid int) (string, error) {
	if err := validPaths(files); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	current, err := root.Readlink(dataLink)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !isStamp(current) || !holds(ctx, root, current, files, gid) {
		if current, err = writeStamp(ctx, root, files, gid); err != nil {
			return "", err
		}
		if err := swap(root, current); err != nil {
			return "", errors.Join(err, tree.Remove(context.WithoutCancel(ctx), dir, current))
		}
	}
	return current, show(ctx, root, current, files, gid)
}

// validPaths refuses paths that would not be a file in dir, or that take one of the
// node's names. The API server does not check the length of a path: all pods pass
// through here.
func validPaths(files map[string]file) error {
	for p := range files {
		if err := bounds.NewPath(p); err != nil {
			return fmt.Errorf("invalid path: %w", err)
		}
		first, _, _ := strings.Cut(p, "/")
		switch {
		case slices.Contains(strings.Split(p, "/"), ".."):
			return fmt.Errorf("invalid path: must not contain '..': %s", bounds.Quote(p))
		case strings.HasPrefix(first, ".."):
			return fmt.Errorf("invalid path: must not start with '..': %s", bounds.Quote(p))
		case p == "" || p == "." || path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0):
			return fmt.Errorf("invalid path: %q is not a clean relative path", bounds.Quote(p))
		}
	}
	above := ""
	for _, p := range byDirectory(files) {
		if above != "" && strings.HasPrefix(p, above+"/") {
			return fmt.Errorf("invalid path: %s is a file and the directory of %s", bounds.Quote(above), bounds.Quote(p))
		}
		above = p
	}
	return nil
}

// byDirectory returns the paths in an order in which everything below a path follows
// it directly.
func byDirectory(files map[string]file) []string {
	return slices.SortedFunc(maps.Keys(files), func(a, b string) int { return strings.Compare(a+"/", b+"/") })
}

// directories counts the directories that the files lie in.
func directories(files map[string]file) int {
	count, before := 0, ""
	for _, p := range byDirectory(files) {
		dir := p[:strings.LastIndex(p, "/")+1] // with its "/", or none
		same := 0
		for same < len(dir) && same < len(before) && dir[same] == before[same] {
			same++
		}
		count += strings.Count(dir[strings.LastIndex(dir[:same], "/")+1:], "/")
		before = dir
	}
	return count
}

// isStamp reports whether name is one that writeStamp gives.
func isStamp(name string) bool {
	at := len(stampLayout)
	if len(name) <= at {
		return false
	}
	_, err := time.Parse(stampLayout, name[:at])
	return err == nil && strings.Trim(name[at:], "0123456789") == ""
}

// holds reports whether the directory has these files and no others, with their modes
// and owners. It stops at the first entry too many: a container can create any number
// of them.
func holds(ctx context.Context, root *os.Root, stamp string, files map[string]file, gid int) bool {
	dir, err := root.Open(".")
	if err != nil {
		return false
	}
	defer dir.Close()
	fd, err := tree.OpenPlace(int(dir.Fd()), stamp)
	if err != nil {
		return false
	}
	top := os.NewFile(uintptr(fd), stamp)
	defer top.Close()
	for p, f := range files {
		if ctx.Err() != nil || !holdsFile(fd, p, f, gid) {
			return false
		}
	}
	// The files are there, and so are their directories, so the number decides the rest.
	left := len(files) + directories(files)
	err = tree.Walk(ctx, top, tree.Visitor{Entry: func(int, string) (enter bool, err error) {
		if left--; left < 0 {
			return false, errors.New("there is something else")
		}
		return true, nil
	}})
	return err == nil
}

func holdsFile(dir int, name string, f file, gid int) bool {
	in, err := safefile.Open(procPath(dir), name)
	if err != nil {
		return false
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil || fi.Mode() != f.mode || fi.Size() != int64(len(f.data)) || !owned(fi, f.uid, gid) {
		return false
	}
	have, err := safefile.Read(in, fi.Size())
	return err == nil && bytes.Equal(have, f.data)
}

// eachEntry calls do with the entries of the directory, reading a few at a time.
func eachEntry(root *os.Root, do func(fs.DirEntry) error) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := do(e); err != nil {
				return err
			}
		}
	}
}

// writeStamp writes the files to a new directory and returns its name.
func writeStamp(ctx context.Context, root *os.Root, files map[string]file, gid int) (string, error) {
	stamp := time.Now().UTC().Format(stampLayout) + fmt.Sprint(rand.Uint32())
	err := writeBelow(ctx, root, stamp, files, gid)
	if err != nil {
		return "", errors.Join(err, tree.Remove(context.WithoutCancel(ctx), root.Name(), stamp))
	}
	return stamp, nil
}

func writeBelow(ctx context.Context, root *os.Root, stamp string, files map[string]file, gid int) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	top, err := makeOwned(int(dir.Fd()), stamp, gid)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	for _, p := range byDirectory(files) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := writeOne(top, p, files[p], gid); err != nil {
			return fmt.Errorf("write %s: %w", bounds.Quote(p), err)
		}
	}
	return nil
}

// writeOne goes from directory to directory, and looks none of them up twice: with
// a whole path at each level, the deepest paths possible take half a minute.
func writeOne(top int, p string, f file, gid int) error {
	at, err := unix.FcntlInt(uintptr(top), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir, name := path.Split(p)
	for part := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if part == "" {
			continue
		}
		next, err := makeOwned(at, part, gid)
		unix.Close(at)
		if err != nil {
			return err
		}
		at = next
	}
	fd, err := unix.Openat(at, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	unix.Close(at)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	_, err = out.Write(f.data)
	if err == nil && (f.uid >= 0 || gid >= 0) {
		err = out.Chown(f.uid, gid)
	}
	if err == nil {
		err = out.Chmod(f.mode)
	}
	return errors.Join(err, out.Close())
}

// makeOwned makes a directory that anybody may read and that belongs to the
// volume's group, if it has one. It returns the directory opened; one that exists
// is opened as it is.
func makeOwned(parent int, name string, gid int) (int, error) {
	err := unix.Mkdirat(parent, name, 0o755)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return -1, err
	}
	made := err == nil
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil || !made {
		return fd, err
	}
	mode := uint32(0o755)
	if gid >= 0 {
		mode |= unix.S_ISGID
		err = unix.Fchown(fd, -1, gid)
	}
	if err == nil {
		err = unix.Fchmod(fd, mode)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// swap makes the stamp the volume's data, atomically.
func swap(root *os.Root, stamp string) error {
	if err := root.Remove(newDataLink); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.Symlink(stamp, newDataLink); err != nil {
		return err
	}
	return root.Rename(newDataLink, dataLink)
}

// show makes the links that the pod's containers see, and removes the links and
// data of earlier calls.
func show(ctx context.Context, root *os.Root, current string, files map[string]file, gid int) error {
	wanted := map[string]bool{}
	for p, f := range files {
		first, _, _ := strings.Cut(p, "/")
		if wanted[first] {
			continue
		}
		wanted[first] = true
		err := root.Symlink(dataLink+"/"+first, first)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil && (f.uid >= 0 || gid >= 0) {
			err = root.Lchown(first, f.uid, gid)
		}
		if err != nil {
			return err
		}
	}
	return eachEntry(root, func(e fs.DirEntry) error {
		name := e.Name()
		switch {
		case isStamp(name) && name != current:
			return tree.Remove(ctx, root.Name(), name)
		case !wanted[name] && e.Type()&fs.ModeSymlink != 0:
			if target, _ := root.Readlink(name); target == dataLink+"/"+name {
				return root.Remove(name)
			}
		}
		return nil
	})
}
