// Package dirwatch tells of changes in directories by inotify, and does without: a user has
// only 128 inotify instances, which containers that run as root share. Whoever uses a Watch
// looks for itself now and then in any case.
package dirwatch

import (
	"errors"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// Watch watches directories. Its methods are for one goroutine.
type Watch struct{ watcher *fsnotify.Watcher }

// New returns a Watch of no directory. With an error it is a Watch that never tells of
// anything, and can be used all the same.
func New() (*Watch, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return &Watch{}, err
	}
	return &Watch{watcher: w}, nil
}

// Add watches one more directory. Adding it again does nothing.
func (w *Watch) Add(path string) error {
	if w.watcher == nil {
		return errors.ErrUnsupported
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
