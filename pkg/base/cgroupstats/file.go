package cgroupstats

import (
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of one file, in bytes: how long it is, a cgroup's members decide.
const maxFile = 1 << 20

// readFile reads a file of a cgroup, or as much of it as maxFile allows. A scrape reads
// thousands of them. os.ReadFile would ask for each one's size, which the kernel does not know,
// and register it with the poller, which takes longer than the reading.
func readFile(path string) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 512) // most have one number
	for len(text) < maxFile {
		if len(text) == cap(text) {
			text = slices.Grow(text, 3*len(text))
		}
		room := text[len(text):min(cap(text), maxFile)]
		n, err := retry(func() (int, error) { return unix.Read(fd, room) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
	}
	return text, nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
