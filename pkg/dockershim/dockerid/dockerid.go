// Package dockerid recognizes the files and directories that the dockershim keeps for containers
// and images, each named after one of them: it deletes only these, and nothing else in the same
// places.
package dockerid

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// length is how many hex digits an ID of Docker has.
const length = 64

// Is reports whether the name is an ID.
func Is(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == length
}

// Named reports whether the entry of a directory is a regular file named after a container: its
// ID, or its ID and an extension.
func Named(e fs.DirEntry) bool {
	id, _, _ := strings.Cut(e.Name(), ".")
	return Is(id) && e.Type().IsRegular()
}

// RemoveFiles removes all such files from a directory, and the directory if nothing else is in
// it. A missing directory is no error.
func RemoveFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove what is kept of containers: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if Named(e) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	_ = os.Remove(dir) // others may keep something there
	return errors.Join(errs...)
}
