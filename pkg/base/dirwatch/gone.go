package dirwatch

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// lookAgain is how often Gone looks by itself, in case an event was missed or nothing is watched.
const lookAgain = 30 * time.Second

// Gone returns true once a file, of which is tells, is no longer at path: it, or a directory that it is in, was
// removed or moved away, or another has its name; false when ctx ends first. Whoever serves on a socket
// has nobody to serve any more then.
func Gone(ctx context.Context, path string, is os.FileInfo) bool {
	w := New()
	defer w.Close()
	dir := filepath.Dir(path)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		_ = w.Add(dir) // before looking: what happens later is told
		// A new file may have the number of the one that was removed.
		if now, err := os.Lstat(path); err != nil || !os.SameFile(is, now) || !now.ModTime().Equal(is.ModTime()) {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-w.Events():
		case <-w.Errors():
		case <-tick.C:
		}
	}
}
