// Package dirwatch tells of changes in directories by inotify, and does without: a user has
// only 128 inotify instances, which containers that run as root share. Whoever uses a Watch
// looks for itself now and then in any case.
package dirwatch

import (
	"slices"

	"github.com/fsnotify/fsnotify"
)

// Watch watches directories. Its methods are for one goroutine.
type Watch struct {
	watcher *fsnotify.Watcher // nil: there is none
	err     error
}

// New returns a Watch of no directory. Where no inotify instance is left (see Err) it never
// tells of anything, and can be used all the same.
func New() *Watch {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return &Watch{err: err}
	}
	return &Watch{watcher: w}
}

// Err says why nothing is watched; nil where directories are.
func (w *Watch) Err() error { return w.err }

// Add watches one more directory. Adding it again does nothing.
func (w *Watch) Add(path string) error {
	if w.watcher == nil {
		return w.err
	}
	return w.watcher.Add(path)
}

// Has reports whether the directory is watched: it no longer is once it has been removed.
func (w *Watch) Has(path string) bool {
	return w.watcher != nil && slices.Contains(w.watcher.WatchList(), path)
}

// Events tells of changes; nil, which blocks, where nothing is watched.
func (w *Watch) Events() <-chan fsnotify.Event {
	if w.watcher == nil {
		return nil
	}
	return w.watcher.Events
}

// Errors tells that changes may have been missed; nil, which blocks, where nothing is watched.
func (w *Watch) Errors() <-chan error {
	if w.watcher == nil {
		return nil
	}
	return w.watcher.Errors
}

// Close ends the watch.
func (w *Watch) Close() {
	if w.watcher != nil {
		_ = w.watcher.Close()
	}
}
