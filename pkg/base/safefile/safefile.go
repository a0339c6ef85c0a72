// Package safefile opens, reads and writes files that a container may have tampered
// with: its /etc/hosts is a file of the node, and whoever has a volume or a hostPath can
// put anything in a file's place. So nothing here follows a link that leads elsewhere,
// waits for a pipe or a lease, opens a device, reads more than it was told to, or writes
// to a file that has another name.
//
//	directory ─openat2─▶ a place (O_PATH) ─fstat: a regular file?─▶ /proc/self/fd ─▶ file
//
// The file that is opened is the file that was checked, whatever happens to the name
// meanwhile. The directory is the caller's own and may be reached through links; below it
// the kernel crosses into no mount, but for OpenWithin. Errors are *fs.PathError.
package safefile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Why a file is not opened or not read.
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrLink       = errors.New("a symbolic link is not followed")
	ErrLinked     = errors.New("the file has another name, a hard link")
	ErrTooLarge   = errors.New("the file is too large")
	ErrOutside    = errors.New("a symbolic link leads out of the directory")
)

// How a name is resolved below its directory.
const (
	noLinks = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV
	inRoot  = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV
	mounted = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
)

// Open opens the regular file name below dir for reading. Callers with a single
// path use Open(filepath.Split(path)).
func Open(dir, name string) (*os.File, error) { return open(dir, name, os.O_RDONLY, noLinks) }

// OpenInRoot is Open for users' files: links are followed as if dir were the whole
// file system.
func OpenInRoot(dir, name string) (*os.File, error) {
	return open(dir, strings.TrimLeft(name, "/"), os.O_RDONLY, inRoot)
}

// OpenWithin opens the regular file or the directory name below dir for reading. Links are
// followed as far as they lead to something below dir, absolute ones too, and mounts are
// crossed: audit logs often have a file system of their own. A link that leads out is
// ErrOutside; one that is put in the way meanwhile is ErrLink.
func OpenWithin(dir, name string) (*os.File, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	path, err := filepath.EvalSymlinks(filepath.Join(root, filepath.Join("/", name)))
	if of := (*fs.PathError)(nil); err != nil && !errors.As(err, &of) { // links that lead to each other
		err = failed("open", filepath.Join(dir, name), ErrLink)
	}
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, failed("open", filepath.Join(dir, name), ErrOutside)
	}
	return open(root, rel, os.O_RDONLY, mounted)
}

// OpenFile is os.OpenFile for the regular file name below dir, with any flags except
// O_EXCL. A file that it creates gets the permissions perm, less the umask.
func OpenFile(dir, name string, flag int, perm os.FileMode) (*os.File, error) {
	f, err := open(dir, name, flag&^os.O_CREATE, noLinks)
	if flag&os.O_CREATE == 0 || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f, err = create(dir, name, flag, perm, false)
	if errors.Is(err, fs.ErrExist) { // somebody was faster
		return open(dir, name, flag&^os.O_CREATE, noLinks)
	}
	return f, err
}

// Create makes an empty file with these permissions, whatever the umask, and opens it
// for writing. Anything of that name except a directory is unlinked first, and stays
// as it is for those who have it open or mounted.
func Create(dir, name string, perm os.FileMode) (*os.File, error) {
	f, err := create(dir, name, os.O_WRONLY, perm, true)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(perm); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Rewrite gives the file this content and these permissions, in place: whoever has it
// mounted sees the new content. The old content is read for comparison only if its
// size matches; otherwise the file is written unread, and truncated.
func Rewrite(dir, name string, data []byte, perm os.FileMode) (err error) {
	f, err := OpenFile(dir, name, os.O_RDWR|os.O_CREATE, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Mode() != perm {
		if err := f.Chmod(perm); err != nil {
			return err
		}
	}
	if fi.Size() == int64(len(data)) {
		if have, err := Read(f, fi.Size()); err == nil && bytes.Equal(have, data) {
			return nil
		}
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(data)))
}

// Read returns the whole content of a file just opened. More than limit bytes are an
// error, and are not read.
func Read(f *os.File, limit int64) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() > limit {
		return nil, failed("read", f.Name(), ErrTooLarge)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit { // it has grown
		return nil, failed("read", f.Name(), ErrTooLarge)
	}
	return data, nil
}

// ReadEnd returns the last bytes of the file, at most limit; whole reports whether
// they are all of it.
func ReadEnd(dir, name string, limit int64) (data []byte, whole bool, err error) {
	f, err := Open(dir, name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	from := max(0, fi.Size()-limit)
	data, err = io.ReadAll(io.NewSectionReader(f, from, limit))
	return data, from == 0, err
}

func open(dir, name string, flag int, resolve uint64) (*os.File, error) {
	full := filepath.Join(dir, name)
	// First with O_PATH: opening a pipe waits, and opening a device has effects.
	at, err := place(dir, name, unix.O_PATH, resolve)
	if resolve&unix.RESOLVE_NO_SYMLINKS != 0 && errors.Is(err, unix.ELOOP) {
		err = ErrLink
	}
	if err != nil {
		return nil, failed("open", full, err)
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, failed("stat", full, err)
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR && resolve == mounted:
	case kind != unix.S_IFREG:
		return nil, failed("open", full, ErrNotRegular)
	case flag&(os.O_WRONLY|os.O_RDWR) != 0 && st.Nlink > 1:
		return nil, failed("open", full, ErrLinked)
	}
	// Without waiting: the owner of a file can hold a lease on it, for which an open
	// waits up to 45 s.
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), flag|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, failed("open", full, err)
	}
	return os.NewFile(uintptr(fd), full), nil
}

func create(dir, name string, flag int, perm os.FileMode, anew bool) (*os.File, error) {
	full := filepath.Join(dir, name)
	parent, base := filepath.Split(name)
	at, err := place(dir, parent, unix.O_PATH|unix.O_DIRECTORY, noLinks)
	if err != nil {
		return nil, failed("create", full, err)
	}
	defer unix.Close(at)
	if anew {
		if err := unix.Unlinkat(at, base, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, failed("remove", full, err)
		}
	}
	fd, err := unix.Openat(at, base, flag|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(perm.Perm()))
	if err != nil {
		return nil, failed("create", full, err)
	}
	return os.NewFile(uintptr(fd), full), nil
}

// place opens name below dir.
func place(dir, name string, flag int, resolve uint64) (int, error) {
	if dir == "" {
		dir = "."
	}
	base, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil || name == "" && flag&unix.O_DIRECTORY != 0 {
		return base, err
	}
	defer unix.Close(base)
	return unix.Openat2(base, name, &unix.OpenHow{Flags: uint64(flag) | unix.O_CLOEXEC, Resolve: resolve})
}

func failed(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}
