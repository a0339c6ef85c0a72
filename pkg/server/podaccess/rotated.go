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
	"slices"

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
	for _, e := range entries { // by name
		stamp, suffix, ok := pods.RotatedLog(filepath.Base(path), e.Name())
		if ok && suffix != pods.UnfinishedLog && e.Type().IsRegular() && !slices.Contains(times, stamp) {
			times = append(times, stamp)
		}
	}
	return times, nil
}

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
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return &logFile{path: path, file: f, text: &unpacker{from: text}, stamp: stamp}, nil
}

// unpacker reads a compressed file from its beginning to its end, once.
type unpacker struct {
	from io.Reader
	off  int64
}

var errBackwards = errors.New("a compressed log is read from its beginning to its end only")

// ReadAt implements io.ReaderAt.
func (u *unpacker) ReadAt(b []byte, off int64) (int, error) {
	if off != u.off {
		return 0, errBackwards
	}
	n, err := io.ReadFull(u.from, b)
	u.off += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) && n > 0 {
		err = io.EOF
	}
	return n, err
}

// newer returns the time of the file that the log was rotated to after this one; "" when the
// log itself comes next. A follower that reads slowly may find several, some of them
// compressed by now.
func (l *logFile) newer() (stamp string, err error) {
	times, err := rotatedTimes(l.path)
	if err != nil {
		return "", err
	}
	if l.stamp == "" {
		// It has been rotated since it was opened: it is one of those that were not there then.
		for _, stamp := range times {
			if stamp <= l.after {
				continue
			}
			if is, err := l.is(stamp); err != nil {
				return "", err
			} else if is {
				l.stamp = stamp
			}
		}
	}
	for _, stamp := range times {
		if stamp > max(l.stamp, l.after) {
			return stamp, nil
		}
	}
	return "", nil
}

// beginning is how much of two files is compared. It holds the time of a line, in
// nanoseconds.
const beginning = 4 << 10

// is reports whether the log was rotated to the file of that time.
func (l *logFile) is(stamp string) (bool, error) {
	other, err := openRotated(l.path, stamp)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // removed meanwhile
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
