package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// ErrDamaged is returned when what stood in a file's place could not be used and has been
// moved aside. Such an error satisfies errors.Is(err, fs.ErrNotExist) too: there is no
// file any more, and whoever goes on without one needs to look no closer.
var ErrDamaged = errors.New("it was damaged and has been moved aside")

type damaged struct{ cause error }

func (d *damaged) Error() string        { return fmt.Sprintf("%v: %v", ErrDamaged, d.cause) }
func (d *damaged) Unwrap() error        { return d.cause }
func (d *damaged) Is(target error) bool { return target == ErrDamaged || target == fs.ErrNotExist }

// aside is what the name of a file that was moved aside has after the file's own.
const aside = ".damaged-"

// How many things that were moved aside are kept of one name, and in one directory.
const (
	maxAside    = 3
	maxAsideAll = 32
)

// Temporary reports whether a name is not that of a file of ours but of what this package
// has left beside one: half written when the machine died, or moved aside.
func Temporary(name string) bool {
	return strings.HasSuffix(name, temporary) || strings.Contains(name, aside)
}

// Original is the name that a file had before it was moved aside; of others, their own.
func Original(name string) string {
	name, _, _ = strings.Cut(name, aside)
	return name
}

// Load reads a file of the agent's own state and gives the content to decode. If anything
// but a file that decode accepts is there (a directory, a pipe, a link, a file that is
// too large or not what was written), it is moved aside, logged with what is lost and what
// to do about it, and the error is ErrDamaged. If nothing is there, the error is
// fs.ErrNotExist. Any other error is the disk's or the kernel's (EIO, EROFS, EMFILE, …): the
// file may be whole, and stays. So is EACCES, which root gets from a policy only (SELinux, a
// scanner, FUSE). lost is a sentence or two.
func Load(path, lost string, decode func([]byte) error) error {
	dir, name := filepath.Split(path)
	return LoadIn(dir, name, lost, decode)
}

// LoadIn is Load of the file name below dir, where others may write: no link on the way from
// dir leads to a file that is read or moved.
func LoadIn(dir, name, lost string, decode func([]byte) error) error {
	f, err := safefile.Open(dir, name)
	if err == nil {
		defer f.Close()
		var text []byte
		if text, err = safefile.Read(f, maxSize); err == nil {
			if err = decode(text); err == nil {
				return nil
			}
			return moveAside(dir, name, lost, err)
		}
	}
	if !IsDamage(err) {
		return err
	}
	return moveAside(dir, name, lost, err)
}

// IsDamage tells for an error of Read what is wrong with a file from what is wrong with the disk or the machine.
func IsDamage(err error) bool {
	for _, d := range []error{safefile.ErrNotRegular, safefile.ErrLink, safefile.ErrTooLarge} {
		if errors.Is(err, d) {
			return true
		}
	}
	return false
}

// Dir makes a directory of the agent's own state, readable by us alone, and those above
// it. Something else in its place is moved aside and logged, as by Load, and the error is
// ErrDamaged; the directory has been made then. A link to a directory is fine. One that
// leads nowhere is an error: the disk that it leads to may not be mounted yet.
func Dir(path, lost string) error {
	moved := MakeWay(path, lost)
	if moved != nil && !errors.Is(moved, ErrDamaged) {
		return moved
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return moved
}

// MakeWay moves aside what is neither a directory nor a link to one, where a directory of the
// agent's own is to be. The error is ErrDamaged then, and nil if nothing was to be done. A link that
// leads nowhere is another error: the disk that it leads to may not be mounted yet.
func MakeWay(path, lost string) error {
	fi, err := os.Stat(path)
	switch link, isLink := os.Readlink(path); {
	case errors.Is(err, fs.ErrNotExist) && isLink == nil:
		return fmt.Errorf("%s is a link to %s, which is not there: is its disk mounted?", path, link)
	case err == nil && fi.IsDir(), err != nil && (isLink != nil || !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR)):
		return nil // whoever makes the directory sees what is wrong
	}
	return MoveAside(path, lost, &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR})
}

// MoveAside renames what is at path, which cannot be used because of cause, and logs that.
// It returns ErrDamaged, or why it could not be moved. Of one name the newest few are
// kept, and directories that are not empty.
func MoveAside(path, lost string, cause error) error {
	dir, name := filepath.Split(path)
	return moveAside(dir, name, lost, cause)
}

func moveAside(dir, name, lost string, cause error) error {
	path := filepath.Join(dir, name)
	suffix := aside + time.Now().UTC().Format("20060102T150405.000Z")
	to := path + suffix
	if err := rename(dir, name, suffix); err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = errors.New("something is mounted there")
		}
		return fmt.Errorf("%s is damaged (%w) and cannot be moved aside: %w", path, cause, err)
	}
	klog.ErrorS(cause, "Moved a damaged file of the agent's state aside", "file", path, "movedTo", to, "lost", lost)
	keep(Aside(path), maxAside)
	keep(Aside(filepath.Join(dir, "*")), maxAsideAll)
	return &damaged{cause}
}

// keep removes all but the newest, where it can: they hinder nothing.
func keep(all []string, most int) {
	for _, old := range all[:max(0, len(all)-most)] {
		_ = os.Remove(old)
	}
}

// Aside returns what has been moved aside of this path, the oldest first. The name * stands
// for all of the directory.
func Aside(path string) []string {
	dir, name := filepath.Split(path)
	if name != "*" {
		name = escapeGlob(name)
	}
	all, _ := filepath.Glob(escapeGlob(dir) + name + aside + "*") // the pattern is valid
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(since(a), since(b)) })
	return all
}

// since is when something was moved aside, by its name.
func since(name string) string {
	_, when, _ := strings.Cut(filepath.Base(name), aside)
	return when
}

// rename adds a suffix to the name of a file below dir, and follows no link below it.
func rename(dir, name, suffix string) error {
	if dir == "" {
		dir = "."
	}
	top, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	above, base := filepath.Split(name)
	parent, err := unix.Openat2(top, filepath.Join(".", above), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return renameIn(parent, base, base+suffix, unix.Renameat2)
}

// renameIn renames a file within a directory, and replaces nothing. renameat2 is the system call.
func renameIn(dir int, from, to string, renameat2 func(int, string, int, string, uint) error) error {
	err := renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// NFS, 9p and others know no flags. Nobody else makes such names: to look first is enough.
	switch err := unix.Fstatat(dir, to, &unix.Stat_t{}, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		return unix.EEXIST
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	return unix.Renameat(dir, from, dir, to)
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
