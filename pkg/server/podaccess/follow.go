package podaccess

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// lookEvery is how often a followed log is looked at without any event.
const lookEvery = time.Second

// maxWatched is how many followed logs are watched at a time. A user has only 128
// inotify instances for all programs, and each watcher is one.
const maxWatched = 32

// settled is how long a log that was rotated is not written to any more before the new one is
// read. containerd reopens a log before the old one has all that was written before.
const settled = 50 * time.Millisecond

// logFile is a log that may be rotated, truncated, removed or replaced at any moment.
type logFile struct {
	path    string
	file    *os.File
	text    io.ReaderAt   // file, or what it is when it is not compressed
	watched *atomic.Int32 // number of watched logs, shared by all logFiles
	// stamp is the time in the file's name, if the log had been rotated to it when it was opened.
	stamp string
	// after is the time of the last file that the log had been rotated to before this one was
	// opened.
	after string
}

func openLog(path string, watched *atomic.Int32) (*logFile, error) {
	times, err := rotatedTimes(path)
	if err != nil {
		return nil, err
	}
	f, err := safefile.Open(filepath.Split(path))
	if err != nil {
		return nil, err
	}
	l := &logFile{path: path, file: f, text: f, watched: watched}
	if len(times) > 0 {
		l.after = times[len(times)-1]
	}
	return l, nil
}

func (l *logFile) close() { l.file.Close() }

// write writes what o asks for, and when following also what is added to the log
// until the container has stopped.
func (l *logFile) write(ctx context.Context, o *v1.PodLogOptions, now time.Time, running func(context.Context) (bool, error), stdout, stderr io.Writer) error {
	r := newLogReader(o, now, stdout, stderr)
	if o.TailLines != nil {
		fi, err := l.file.Stat()
		if err != nil {
			return err
		}
		start, err := tailStart(ctx, l.file, fi.Size(), *o.TailLines)
		if err != nil {
			return err
		}
		r.begin(start)
	}
	var err error
	if o.Follow {
		err = l.follow(ctx, r, running)
	} else {
		err = r.read(ctx, l.text)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// follow reads the log until running reports that nobody writes to it any more and
// its end is reached, including the file that rotation has put in its place. It
// calls running whenever there is nothing to read.
func (l *logFile) follow(ctx context.Context, r *logReader, running func(context.Context) (bool, error)) error {
	changes := watch(l.path, l.watched)
	defer changes.close()
	for ended := false; ; {
		if err := r.read(ctx, l.text); err != nil {
			return err
		}
		moved, err := l.moveOn(ctx, r, ended)
		switch {
		case err != nil:
			return err
		case moved:
			continue
		case ended:
			return nil
		}
		if runs, err := running(ctx); err != nil {
			return err
		} else if !runs {
			ended = true // its last output may not have been read yet
			continue
		}
		if err := changes.wait(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// moveOn reports whether there is more to read although the file has ended: the log was
// rotated, or is shorter than it was. ended says that the container writes no more.
func (l *logFile) moveOn(ctx context.Context, r *logReader, ended bool) (bool, error) {
	was, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	is, err := os.Lstat(l.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err == nil && os.SameFile(was, is) {
		if was.Size() >= r.offset {
			return false, nil
		}
		r.begin(0)
		return true, nil
	}
	next, err := l.next(ended)
	switch {
	case errors.Is(err, fs.ErrNotExist): // rotation takes a moment
		return false, nil
	case err != nil || next == nil:
		return false, err
	}
	if next.stamp == "" && !ended {
		select {
		case <-ctx.Done():
		case <-time.After(settled):
		}
	}
	// A runtime writes to the old file until it has made the new one.
	end := r.offset
	if err := r.read(ctx, l.text); err != nil {
		next.close()
		return false, err
	}
	if next.stamp == "" && !ended && r.offset > end {
		next.close()
		return true, nil
	}
	l.close()
	l.file, l.text, l.stamp, l.after = next.file, next.text, next.stamp, next.after
	r.begin(0)
	return true, nil
}

// next opens the file that follows; nil: there is none yet.
func (l *logFile) next(ended bool) (*logFile, error) {
	stamp, err := l.newer()
	if err != nil {
		return nil, err
	}
	if stamp != "" {
		return openRotated(l.path, stamp)
	}
	next, err := openLog(l.path, l.watched)
	if err != nil {
		return nil, err
	}
	// It may have been rotated before it was opened.
	if stamp, err = l.newer(); err != nil || stamp != "" {
		next.close()
		if err != nil {
			return nil, err
		}
		return openRotated(l.path, stamp)
	}
	// As long as nothing is in it the old one may still be written to.
	if fi, err := next.file.Stat(); err != nil || fi.Size() == 0 && !ended {
		next.close()
		return nil, err
	}
	return next, nil
}

// changes waits for changes to a file.
type changes struct {
	name    string
	watched *atomic.Int32
	watcher *fsnotify.Watcher // nil: there is only the clock
	events  chan fsnotify.Event
	errors  chan error
}

func watch(path string, watched *atomic.Int32) *changes {
	c := &changes{name: filepath.Base(path), watched: watched}
	err := errors.New("others are watched")
	if watched.Add(1) <= maxWatched {
		var w *fsnotify.Watcher
		if w, err = fsnotify.NewWatcher(); err == nil {
			if err = w.Add(filepath.Dir(path)); err == nil {
				c.watcher, c.events, c.errors = w, w.Events, w.Errors
				return c
			}
			w.Close()
		}
	}
	watched.Add(-1)
	klog.V(4).InfoS("Log is not watched, looking at it each second", "path", path, "err", err)
	return c
}

// wait returns after a change of the file, or after that time: events can get lost.
func (c *changes) wait(ctx context.Context, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case e := <-c.events:
			if filepath.Base(e.Name) == c.name {
				return nil
			}
		case <-c.errors: // events were lost
		}
	}
}

func (c *changes) close() {
	if c.watcher != nil {
		c.watcher.Close()
		c.watched.Add(-1)
	}
}
