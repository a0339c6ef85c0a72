// Package durable writes small files that stay whole if the process or the machine
// crashes: with the old content or with the new. It also reads them, without
// trusting others who can write to their directories, such as a pod with a
// hostPath. What is damaged all the same is moved aside, so that it stops no node: see
// Load.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// temporary is what the name of a file that is being written has after the file's own.
const temporary = ".new"

// maxSize is the largest file that Read accepts, in bytes.
const maxSize = 64 << 20

// Read returns the content of the file, which must be a regular file. If there is
// none, the error satisfies errors.Is(err, fs.ErrNotExist).
func Read(path string) ([]byte, error) {
	f, err := safefile.Open(filepath.Split(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return safefile.Read(f, maxSize)
}

// Write gives the file this content, readable by us alone, or leaves it as it was;
// after a success, the content also survives a crash of the machine. A missing
// directory is made. One file has one writer at a time.
func Write(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := path + temporary
	if fi, err := os.Lstat(temp); err == nil && fi.IsDir() {
		err := MoveAside(temp, "Nothing that this agent has written.", &fs.PathError{Op: "write", Path: temp, Err: unix.EISDIR})
		if !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	f, err := safefile.Create(dir, filepath.Base(temp), 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
