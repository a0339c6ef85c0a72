// Package durable writes small files that a crash of the process or of the machine
// leaves whole: with the old content or with the new.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Write makes the file have this content, readable by us alone, or leaves it as it
// was; on success also a machine that dies has it. The directory is made where it
// is missing. One file has one writer at a time.
func Write(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
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
