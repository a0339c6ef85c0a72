package logrotate

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// files is the directory of a log. No name in it has a slash.
type files interface {
	list() ([]entry, error)
	// rename gives a file another name, never one that is taken (fs.ErrExist).
	rename(from, to string) error
	// remove removes a file; that there is none is fine.
	remove(name string) error
	// pack writes the compressed content of one file to another, which is anew, whole, on disk
	// and not listed under any name before that.
	pack(ctx context.Context, from, to string) error
	// commit gives the compressed file its name, whatever had it before.
	commit(from, to string) error
}

// directory is an open directory. Names are resolved in it, wherever links lead by then.
type directory struct{ file *os.File }

// openDirectory opens a directory below root, through no links. Pods that collect logs may be
// able to write there.
func openDirectory(root, name string) (directory, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return directory{}, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(base)
	path := filepath.Join(root, name)
	fd, err := unix.Openat2(base, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return directory{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return directory{os.NewFile(uintptr(fd), path)}, nil
}

func (d directory) close() { d.file.Close() }

func (d directory) fd() int { return int(d.file.Fd()) }

// path names the directory for functions that take a path, without resolving its names anew.
func (d directory) path() string { return "/proc/self/fd/" + strconv.Itoa(d.fd()) }

func (d directory) failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var of *fs.PathError // by another name of this directory
	if errors.As(err, &of) {
		err = of.Err
	}
	return &fs.PathError{Op: op, Path: filepath.Join(d.file.Name(), name), Err: err}
}

func (d directory) list() ([]entry, error) {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := d.file.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(names))
	for _, name := range names {
		st, err := d.stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{name, st.Size, st.Mode&unix.S_IFMT == unix.S_IFREG})
	}
	return entries, nil
}

func (d directory) stat(name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, d.failed("stat", name, err)
}

func (d directory) rename(from, to string) error {
	return d.failed("rename", from, unix.Renameat2(d.fd(), from, d.fd(), to, unix.RENAME_NOREPLACE))
}

func (d directory) remove(name string) error {
	err := unix.Unlinkat(d.fd(), name, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return d.failed("remove", name, err)
}

func (d directory) commit(from, to string) error {
	if err := unix.Renameat(d.fd(), from, d.fd(), to); err != nil {
		return d.failed("rename", from, err)
	}
	// The name must be on disk before the file that it replaces is removed.
	return d.failed("sync", "", unix.Fsync(d.fd()))
}

// errChanged: the runtime writes to the file. It stays as it is, and is tried again.
var errChanged = errors.New("it was written to while it was being compressed")

func (d directory) pack(ctx context.Context, from, to string) (err error) {
	src, err := safefile.Open(d.path(), from)
	if err != nil {
		return d.failed("open", from, err)
	}
	defer src.Close()
	was, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := safefile.Create(d.path(), to, was.Mode().Perm())
	if err != nil {
		return d.failed("create", to, err)
	}
	defer func() {
		if err = errors.Join(err, dst.Close()); err != nil {
			_ = d.remove(to) // a later plan removes it, too
		}
	}()
	n, err := compress(ctx, dst, src)
	if err != nil {
		return d.failed("compress", from, err)
	}
	if err := dst.Sync(); err != nil { // what a full disk has no room for may show only now
		return d.failed("sync", to, err)
	}
	// It may have been removed meanwhile, as the oldest.
	var opened unix.Stat_t
	named, err := d.stat(from)
	if err != nil {
		return err
	}
	if err := unix.Fstat(int(src.Fd()), &opened); err != nil {
		return d.failed("stat", from, err)
	}
	if opened.Size != n || opened.Ino != named.Ino || opened.Dev != named.Dev {
		return d.failed("compress", from, errChanged)
	}
	return nil
}

// compress returns how many bytes it has read.
func compress(ctx context.Context, dst io.Writer, src io.Reader) (int64, error) {
	out := bufio.NewWriterSize(dst, 256<<10)
	// The fastest level: what is compressed here takes CPU from the pods, and a container
	// that logs a lot makes more than the better levels could compress on a whole core.
	packer, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(packer, untilDone{ctx, src}, make([]byte, 256<<10))
	if err != nil {
		return n, err
	}
	return n, errors.Join(packer.Close(), out.Flush())
}

// untilDone reads until ctx ends.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (r untilDone) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
