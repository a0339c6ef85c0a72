package podaccess

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// rotatedTimes returns the times in the names of the files that the log was rotated to, each
// once, the oldest first.
func rotatedTimes(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var times []string
	for _, e := range entries { // by name: those of one time stand together
		stamp, suffix, ok := pods.RotatedLog(filepath.Base(path), e.Name())
		if ok && suffix != pods.UnfinishedLog && e.Type().IsRegular() && (len(times) == 0 || times[len(times)-1] != stamp) {
			times = append(times, stamp)
		}
	}
	return times, nil
}

// errForeign is for what only has the name of a file that a log was rotated to: pods that collect
// logs may be able to put such files there.
var errForeign = errors.New("it is no compressed log")

// openRotated opens a file that the log was rotated to, compressed or not.
func openRotated(path, stamp string) (*logFile, error) {
	f, err := safefile.Open(filepath.Split(path + "." + stamp))
	if err == nil {
		return &logFile{path: path, file: f, text: f, stamp: stamp}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f, err = safefile.Open(filepath.Split(path + "." + stamp + pods.CompressedLog)); err != nil {
		return nil, err
	}
	text, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w: %w", f.Name(), errForeign, err)
	}
	return &logFile{path: path, file: f, text: &unpacker{from: text}, stamp: stamp}, nil
}

// unpacker reads a compressed file from its beginning to its end, once.
type unpacker struct {
	from  io.Reader
	off   int64
	ended bool
}

var errBackwards = errors.New("a compressed log is read from its beginning to its end only")

// ReadAt implements io.ReaderAt.
func (u *unpacker) ReadAt(b []byte, off int64) (int, error) {
	switch {
	case u.ended: // what is left is the beginning of a line
		return 0, io.EOF
	case off != u.off:
		return 0, errBackwards
	}
	n := 0
	for n < len(b) {
		m, err := u.from.Read(b[n:])
		n += m
		if err != nil {
			u.off += int64(n)
			u.ended = errors.Is(err, io.EOF)
			return n, err
		}
	}
	u.off += int64(n)
	return n, nil
}

// newer returns the time of the file that the log was rotated to after this one; "" when the
// log itself comes next. A follower that reads slowly may find several, some of them
// compressed by now.
func (l *logFile) newer() (stamp string, err error) {
	times, err := rotatedTimes(l.path)
	if err != nil {
		return "", err
	}
	own := l.stamp
	if own == "" {
		// It has been rotated since it was opened, to one of those that were not there then. That
		// is not remembered: a rotation that fails is undone.
		for _, stamp := range times {
			if stamp <= l.after {
				continue
			}
			is, err := l.is(stamp)
			if err != nil {
				return "", err
			}
			if is {
				own = stamp
				break
			}
		}
	}
	for _, stamp := range times {
		if stamp > max(own, l.after) && !foreign(l.path, stamp) {
			return stamp, nil
		}
	}
	return "", nil
}

// foreign reports whether the file of that time is none that a log was rotated to, or has been
// removed meanwhile.
func foreign(path, stamp string) bool {
	f, err := openRotated(path, stamp)
	if err == nil {
		f.close()
	}
	return errors.Is(err, errForeign) || errors.Is(err, fs.ErrNotExist)
}

// beginning is how much of two files is compared. It holds the time of a line, in
// nanoseconds.
const beginning = 4 << 10

// is reports whether the log was rotated to the file of that time.
func (l *logFile) is(stamp string) (bool, error) {
	other, err := openRotated(l.path, stamp)
	if errors.Is(err, errForeign) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer other.close()
	was, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	if is, err := other.file.Stat(); err != nil || os.SameFile(was, is) {
		return err == nil, err
	}
	own, its := make([]byte, beginning), make([]byte, beginning)
	n, _ := l.text.ReadAt(own, 0)
	m, _ := other.text.ReadAt(its, 0)
	return n > 0 && bytes.Equal(own[:n], its[:m]), nil
}
