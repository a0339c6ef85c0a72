package source

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// watcher has the kernel report changes to the manifest path: to the directory
// itself, to its name in its parent, and to each symbolic link on the way to a
// manifest. If the path does not exist, it watches for the next part to appear.
type watcher struct {
	fs     *fsnotify.Watcher
	dirs   map[string]inode
	names  map[string]map[string]bool // per directory: the names in it that matter; nil: everything
	real   string                     // manifest path without symbolic links
	failed bool
}

type inode struct{ dev, ino uint64 }

func (w *watcher) events() <-chan fsnotify.Event {
	if w.fs == nil {
		return nil
	}
	return w.fs.Events
}

func (w *watcher) errors() <-chan error {
	if w.fs == nil {
		return nil
	}
	return w.fs.Errors
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
	}
}

// concerns reports whether an event can change what the manifests are.
func (w *watcher) concerns(e fsnotify.Event) bool {
	if _, itself := w.dirs[e.Name]; itself {
		if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
			_ = w.fs.Remove(e.Name) // already gone if the kernel has dropped it
			delete(w.dirs, e.Name)
		}
		return true
	}
	names, ok := w.names[filepath.Dir(e.Name)]
	return ok && (names == nil || names[filepath.Base(e.Name)])
}

// follow watches what the path and the links lead through now. Where it cannot, the
// periodic rescan has to do; it tries again at the next.
func (w *watcher) follow(path string, links []string) {
	names := map[string]map[string]bool{}
	w.real = waypoints(path, names)
	for _, l := range links {
		waypoints(l, names)
	}
	if st, err := os.Stat(w.real); err == nil && st.IsDir() {
		names[w.real] = nil
	}
	if w.fs == nil {
		fs, err := fsnotify.NewBufferedWatcher(64)
		if err != nil {
			w.fault(path, err)
			return
		}
		w.fs, w.dirs = fs, map[string]inode{}
	}
	for dir, was := range w.dirs {
		// A path that has become another directory needs a new watch.
		if _, wanted := names[dir]; !wanted || inodeOf(dir) != was {
			_ = w.fs.Remove(dir) // already gone if the kernel has dropped it
			delete(w.dirs, dir)
		}
	}
	failed := false
	for dir := range names {
		if _, ok := w.dirs[dir]; ok {
			continue
		}
		is := inodeOf(dir)
		if err := w.fs.Add(dir); err != nil {
			if !os.IsNotExist(err) {
				failed = true
				w.fault(dir, err)
			}
			continue
		}
		w.dirs[dir] = is
	}
	w.names = names
	w.failed = failed
}

func (w *watcher) fault(path string, err error) {
	if !w.failed {
		w.failed = true
		klog.InfoS("Cannot watch manifests, relying on the periodic rescan", "path", path, "err", err)
	}
}

func inodeOf(path string) inode {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return inode{}
	}
	return inode{uint64(st.Dev), st.Ino}
}

// waypoints collects the directories in which a change can make the path lead to
// another file, each with the names in it that matter: the path's last part, every
// symbolic link on the way, and the first part that does not exist. It returns the
// path without symbolic links, as far as it exists.
func waypoints(path string, names map[string]map[string]bool) string {
	note := func(dir, name string) {
		if names[dir] == nil {
			names[dir] = map[string]bool{}
		}
		names[dir][name] = true
	}
	at, rest := "/", parts(path)
	for hops := 0; len(rest) > 0 && hops < 40; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			note(at, name)
			return next
		case info.Mode()&os.ModeSymlink != 0:
			note(at, name)
			target, err := os.Readlink(next)
			if err != nil {
				return next
			}
			hops++
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(parts(target), rest...)
			continue
		case len(rest) == 0:
			note(at, name)
		}
		at = next
	}
	return at
}

func parts(path string) []string {
	var all []string
	for _, p := range strings.Split(path, "/") {
		if p != "" && p != "." {
			all = append(all, p)
		}
	}
	return all
}
