package volume

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// filesystem is what the kernel is to mount. These kinds need no helper program, so
// they are mounted by system call: a pod with ten secrets starts no process.
type filesystem struct {
	kind    string
	options []string
}

// mountAt makes dir and mounts the filesystem there, unless something is mounted.
func mountAt(dir string, fs filesystem) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	mounted, err := isMounted(dir)
	if mounted || err != nil {
		return err
	}
	data := strings.Join(fs.options, ",")
	if fs.kind == "tmpfs" {
		// What is meant to be in memory stays there, if the kernel supports that (6.4 and
		// later; others do not know the option).
		err := unix.Mount(fs.kind, dir, fs.kind, 0, data+",noswap")
		if err == nil || !errors.Is(err, unix.EINVAL) {
			return wrapMount(err, fs.kind, dir, data)
		}
	}
	return wrapMount(unix.Mount(fs.kind, dir, fs.kind, 0, data), fs.kind, dir, data)
}

func wrapMount(err error, kind, dir, data string) error {
	if err != nil {
		return fmt.Errorf("mount %s at %s with %q: %w", kind, dir, data, err)
	}
	return nil
}

// tmpfsOptions are those of a tmpfs whose root directory has that mode and group;
// size 0 is the kernel's choice (half of memory), gid -1 root's.
func tmpfsOptions(size int64, mode os.FileMode, gid int) []string {
	o := []string{"mode=" + octal(mode)}
	if size > 0 {
		o = append(o, "size="+strconv.FormatInt(size, 10))
	}
	if gid >= 0 {
		o = append(o, "gid="+strconv.Itoa(gid))
	}
	return o
}

func octal(mode os.FileMode) string {
	bits := uint32(mode.Perm())
	if mode&os.ModeSetgid != 0 {
		bits |= unix.S_ISGID
	}
	if mode&os.ModeSticky != 0 {
		bits |= unix.S_ISVTX
	}
	return strconv.FormatUint(uint64(bits), 8)
}

// isMounted reports whether something is mounted at path, bind mounts included.
func isMounted(path string) (bool, error) {
	mounted, err := mountinfo.Mounted(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}

// mountsBelow returns the mount points at or below dir, deepest and latest first:
// the order in which they can be unmounted. Stacked mounts are listed once each.
func mountsBelow(dir string) ([]string, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("read mounts below %s: %w", dir, err)
	}
	sort.SliceStable(infos, func(i, j int) bool {
		return strings.Count(infos[i].Mountpoint, "/") > strings.Count(infos[j].Mountpoint, "/")
	})
	points := make([]string, len(infos))
	for i, info := range infos {
		points[i] = info.Mountpoint
	}
	return points, nil
}

// unmountBelow unmounts everything at or below dir, and calls at with each step. It
// goes on after a failure, and looks again after a success: a mount may have hidden
// another.
func unmountBelow(dir string, at func(string)) error {
	for {
		points, err := mountsBelow(dir)
		if err != nil || len(points) == 0 {
			return err
		}
		var failed []error
		for _, p := range points {
			at("unmounting " + p)
			// Never through a link that has replaced a directory.
			if err := unix.Unmount(p, unix.UMOUNT_NOFOLLOW); err != nil {
				failed = append(failed, fmt.Errorf("unmount %s: %w", p, err))
			}
		}
		if len(failed) == len(points) {
			return errors.Join(failed...)
		}
	}
}
