package cadvisor

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
)

// devices remembers for one reading what the kernel calls block devices, by "major:minor".
type devices map[string]string

const sysBlock = "/sys/dev/block/"

// name returns "/dev/vda", or the numbers of a device that has no name.
func (d devices) name(numbers string) string {
	if name, ok := d[numbers]; ok {
		return name
	}
	name := numbers
	if uevent, err := os.ReadFile(sysBlock + numbers + "/uevent"); err == nil {
		for l := range bytes.Lines(uevent) {
			if v, ok := bytes.CutPrefix(bytes.TrimSpace(l), []byte("DEVNAME=")); ok {
				name = "/dev/" + string(v)
			}
		}
	}
	d[numbers] = name
	return name
}

func numbers(major, minor uint64) string { return text(major) + ":" + text(minor) }

func (d devices) disks(all []cgroupstats.DeviceIO) []disk {
	var out []disk
	for _, io := range all {
		out = append(out, disk{d.name(numbers(io.Major, io.Minor)), io})
	}
	return out
}

// fileSystem returns the size of the file system that a path is on.
func (d devices) fileSystem(path string) (storage, bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if path == "" || unix.Statfs(path, &fs) != nil || unix.Stat(path, &st) != nil {
		return storage{}, false
	}
	size := uint64(fs.Frsize)
	return storage{
		device:   d.name(numbers(uint64(unix.Major(st.Dev)), uint64(unix.Minor(st.Dev)))),
		used:     (fs.Blocks - fs.Bfree) * size,
		capacity: fs.Blocks * size, inodes: fs.Files, inodesFree: fs.Ffree,
	}, true
}

// below returns the whole disk that a path is on: the kernel counts what is read and written
// by disk, not by partition. ok is false where there is none, such as on tmpfs or overlay.
func (d devices) below(path string) (disk, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return disk{}, false
	}
	major, minor := uint64(unix.Major(st.Dev)), uint64(unix.Minor(st.Dev))
	dir := sysBlock + numbers(major, minor)
	if _, err := os.Stat(dir + "/partition"); err == nil {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return disk{}, false
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(real), "dev"))
		a, b, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
		var err1, err2 error
		major, err1 = strconv.ParseUint(a, 10, 32)
		minor, err2 = strconv.ParseUint(b, 10, 32)
		if err != nil || err1 != nil || err2 != nil {
			return disk{}, false
		}
	}
	name := d.name(numbers(major, minor))
	return disk{name, cgroupstats.DeviceIO{Major: major, Minor: minor}}, strings.HasPrefix(name, "/dev/")
}
