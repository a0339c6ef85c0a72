// Package hostdir makes directories of the host that a pod is to see and that do
// not exist. The kubelet's volumes (type DirectoryOrCreate) and the dockershim's
// mounts use it.
package hostdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// mode is what Kubernetes documents for hostPath, and what container runtimes use.
const mode = 0o755

// Make makes a directory at path, which is absolute and has no "..", and its missing
// parents, each with mode 0755 whatever the process's umask. What exists is left as
// it is, even a file. Links that lead somewhere are followed; one that does not is
// an error, as for Docker, containerd and CRI-O. It can be repeated and called
// concurrently.
func Make(path string) error {
	var missing []string // from the end of the path to its beginning
	at := filepath.Clean(path)
	for {
		_, err := os.Lstat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		missing = append(missing, filepath.Base(at))
		at = filepath.Dir(at)
	}
	if _, err := os.Stat(at); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is a link that leads nowhere", at)
	}
	if len(missing) == 0 {
		return nil
	}
	// From here on by descriptors: somebody who can write to a directory on the way
	// must not get another file made 0755 in place of the one that was made.
	dir, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: at, Err: err}
	}
	for _, name := range slices.Backward(missing) {
		at = filepath.Join(at, name)
		next, err := makeIn(dir, name)
		unix.Close(dir)
		if err != nil {
			return &os.PathError{Op: "mkdir", Path: at, Err: err}
		}
		dir = next
	}
	return unix.Close(dir)
}

// makeIn makes one directory, unless somebody else just did, and opens it.
func makeIn(dir int, name string) (int, error) {
	made := unix.Mkdirat(dir, name, mode)
	if made != nil && !errors.Is(made, unix.EEXIST) {
		return -1, made
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil || made != nil {
		return fd, err
	}
	// Restores what the umask took away; a setgid bit from the parent stays.
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&0o777 != mode {
		err = unix.Fchmod(fd, st.Mode&0o7000|mode)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
