package controlplane

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// claimFile is in each directory that is entirely ours: everything beside it is newer.
const claimFile = "made-by-controlplane"

// claim makes a directory ours, with everything that will be put into it. A
// directory with somebody else's files is refused.
func claim(dir string) error {
	if claimed(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s has files in it, such as %s, that are not of a control plane's making: give it a directory of its own", dir, entries[0].Name())
	}
	return durable.Write(filepath.Join(dir, claimFile), []byte("Everything in this directory may be removed, by `make cluster-down`.\n"))
}

func claimed(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, claimFile))
	return err == nil && info.Mode().IsRegular()
}

// realPath is the path without links, even if its end does not exist yet.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if !os.IsNotExist(err) {
		return real, err
	}
	parent, err := realPath(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}
