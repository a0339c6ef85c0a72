// Package durable writes small files that a crash of the process or of the machine
// leaves whole: with the old content or with the new. And it reads them, trusting
// nobody who can write to their directories, as a pod with a hostPath can.
package durable

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// maxSize is what Read takes for a file of ours, in bytes.
const maxSize = 64 << 20

// Read returns what the file holds. It must be a regular file; errors.Is(err,
// fs.ErrNotExist) where there is none.
func Read(path string) ([]byte, error) {
	f, err := safefile.Open(filepath.Split(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return safefile.Read(f, maxSize)
}

// Write makes the file have this content, readable by us alone, or leaves it as it
// was; on success also a machine that dies has it. The directory is made where it
// is missing. One file has one writer at a time.
func Write(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := path + ".new"
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
