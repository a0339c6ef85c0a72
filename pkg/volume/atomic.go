package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// file is one file that the node writes into a volume.
type file struct {
	data []byte
	mode os.FileMode // permission bits, whatever the umask
	uid  int         // -1: root
}

// Names in a volume that are the node's own: none of a pod's begins so.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	stampLayout = "..2006_01_02_15_04_05."
)

// writeFiles makes files, and nothing else, be what dir shows; paths are clean.
// A reader sees all of the old ones or all of the new ones:
//
//	dir/key  ─▶ ..data/key                   a link for each first element of a path
//	dir/..data ─▶ ..2026_01_02_03_04_05.6789 replaced by a rename
//	dir/..2026_01_02_03_04_05.6789/key       the files, never written to again
//
// It returns the name of that last directory, a new one only if the files differ.
// gid -1 is root's. What a crash left of earlier calls is cleared. Nothing is
// written outside of dir, whatever links it holds.
func writeFiles(dir string, files map[string]file, gid int) (string, error) {
	if err := validPaths(files); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	current, err := root.Readlink(dataLink)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !isStamp(current) || !holds(root, current, files, gid) {
		if current, err = writeStamp(root, files, gid); err != nil {
			return "", err
		}
		if err := swap(root, current); err != nil {
			return "", errors.Join(err, root.RemoveAll(current))
		}
	}
	return current, show(root, current, files, gid)
}

// validPaths refuses what would not be a file of dir or take one of the node's names.
func validPaths(files map[string]file) error {
	for p := range files {
		first, _, _ := strings.Cut(p, "/")
		switch {
		case slices.Contains(strings.Split(p, "/"), ".."):
			return fmt.Errorf("invalid path: must not contain '..': %s", p)
		case strings.HasPrefix(first, ".."):
			return fmt.Errorf("invalid path: must not start with '..': %s", p)
		case p == "" || p == "." || path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0):
			return fmt.Errorf("invalid path: %q is not a clean relative path", p)
		}
		for up := path.Dir(p); up != "."; up = path.Dir(up) {
			if _, ok := files[up]; ok {
				return fmt.Errorf("invalid path: %s is a file and the directory of %s", up, p)
			}
		}
	}
	return nil
}

// isStamp tells whether name is one that writeStamp gives.
func isStamp(name string) bool {
	at := len(stampLayout)
	if len(name) <= at {
		return false
	}
	_, err := time.Parse(stampLayout, name[:at])
	return err == nil && strings.Trim(name[at:], "0123456789") == ""
}

// holds tells whether the directory has these files and no others, with their
// modes and owners.
func holds(root *os.Root, stamp string, files map[string]file, gid int) bool {
	found, err := list(root, stamp)
	if err != nil || len(found) != len(files) {
		return false
	}
	for p, f := range files {
		fi := found[p]
		if fi == nil || !fi.Mode().IsRegular() || fi.Mode().Perm() != f.mode || fi.Size() != int64(len(f.data)) || !owned(fi, f.uid, gid) {
			return false
		}
		if have, err := root.ReadFile(path.Join(stamp, p)); err != nil || !bytes.Equal(have, f.data) {
			return false
		}
	}
	return true
}

// list returns all that is below dir but directories, by path.
func list(root *os.Root, dir string) (map[string]fs.FileInfo, error) {
	found := map[string]fs.FileInfo{}
	var visit func(string) error
	visit = func(sub string) error {
		entries, err := readDir(root, path.Join(dir, sub))
		if err != nil {
			return err
		}
		for _, e := range entries {
			p := path.Join(sub, e.Name())
			if e.IsDir() {
				if err := visit(p); err != nil {
					return err
				}
				continue
			}
			if found[p], err = root.Lstat(path.Join(dir, p)); err != nil {
				return err
			}
		}
		return nil
	}
	return found, visit("")
}

func readDir(root *os.Root, name string) ([]fs.DirEntry, error) {
	d, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

// writeStamp writes the files to a new directory and returns its name.
func writeStamp(root *os.Root, files map[string]file, gid int) (string, error) {
	stamp := time.Now().UTC().Format(stampLayout) + fmt.Sprint(rand.Uint32())
	if err := makeOwned(root, stamp, gid); err != nil {
		return "", err
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if err := writeOne(root, stamp, p, files[p], gid); err != nil {
			return "", errors.Join(fmt.Errorf("write %s: %w", p, err), root.RemoveAll(stamp))
		}
	}
	return stamp, nil
}

func writeOne(root *os.Root, stamp, p string, f file, gid int) error {
	dir := stamp
	for part := range strings.SplitSeq(path.Dir(p), "/") {
		if dir = path.Join(dir, part); dir == stamp {
			continue
		}
		if err := makeOwned(root, dir, gid); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	out, err := root.OpenFile(path.Join(stamp, p), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(f.data)
	if err == nil && (f.uid >= 0 || gid >= 0) {
		err = out.Chown(f.uid, gid)
	}
	if err == nil {
		err = out.Chmod(f.mode)
	}
	return errors.Join(err, out.Close())
}

// makeOwned makes a directory that anybody may read and, where the volume has a
// group, belongs to that.
func makeOwned(root *os.Root, dir string, gid int) error {
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o755)
	if gid >= 0 {
		mode |= os.ModeSetgid
		if err := root.Lchown(dir, -1, gid); err != nil {
			return err
		}
	}
	return root.Chmod(dir, mode)
}

// swap makes the stamp the volume's data at once.
func swap(root *os.Root, stamp string) error {
	if err := root.Remove(newDataLink); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.Symlink(stamp, newDataLink); err != nil {
		return err
	}
	return root.Rename(newDataLink, dataLink)
}

// show makes the links that the pod's containers see, and removes those and the
// data of before.
func show(root *os.Root, current string, files map[string]file, gid int) error {
	entries, err := readDir(root, ".")
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
	}
	wanted := map[string]bool{}
	for p, f := range files {
		first, _, _ := strings.Cut(p, "/")
		if wanted[first] {
			continue
		}
		wanted[first] = true
		if there[first] {
			continue
		}
		if err := root.Symlink(dataLink+"/"+first, first); err != nil {
			return err
		}
		if f.uid >= 0 || gid >= 0 {
			if err := root.Lchown(first, f.uid, gid); err != nil {
				return err
			}
		}
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case isStamp(name) && name != current:
			err = root.RemoveAll(name)
		case !wanted[name] && e.Type()&fs.ModeSymlink != 0:
			if target, _ := root.Readlink(name); target == dataLink+"/"+name {
				err = root.Remove(name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
