// Package dockerid tells what the dockershim keeps of containers and images, one a file or
// directory and named after it, from others in the same places: it deletes only its own.
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

// length of an ID in Docker, in hex digits.
const length = 64

// Is tells whether the name is an ID.
func Is(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == length
}

// Named tells whether the entry of a directory is a regular file named after a container:
// its ID, or that and an extension.
func Named(e fs.DirEntry) bool {
	id, _, _ := strings.Cut(e.Name(), ".")
	return Is(id) && e.Type().IsRegular()
}

// RemoveFiles removes all such files from a directory, and the directory where nothing else
// is in it. A missing one is fine.
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
