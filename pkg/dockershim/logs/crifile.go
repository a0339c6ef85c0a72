package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// criFile is a CRI log, open for appending, with its identity and size when it was opened.
type criFile struct {
	*os.File
	fileInfo
}

// openCRI opens the CRI log, which must be a regular file and not a link to one.
func openCRI(path string, create bool) (criFile, error) {
	flags := os.O_RDWR | os.O_APPEND
	if create {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return criFile{}, fmt.Errorf("create log directory: %w", err)
		}
		flags |= os.O_CREATE
	}
	dir, name := filepath.Split(path)
	f, err := safefile.OpenFile(dir, name, flags, 0o640)
	if err != nil {
		return criFile{}, fmt.Errorf("open log: %w", err)
	}
	fi, err := statFile(f)
	if err != nil {
		f.Close()
		return criFile{}, err
	}
	return criFile{f, fi}, nil
}

// currentCRI opens the file that the position refers to, also when it has been renamed
// by a log rotation that has not yet called Reopen. When that file is gone it opens the
// one at path, created when missing.
func currentCRI(path string, id fileID) (criFile, error) {
	f, err := openCRI(path, false)
	if err == nil && f.fileID == id {
		return f, nil
	}
	if err == nil {
		f.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return criFile{}, err
	}
	if id.Inode != 0 {
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return criFile{}, fmt.Errorf("look for the renamed log: %w", err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), filepath.Base(path)+".") {
				continue
			}
			sibling := filepath.Join(filepath.Dir(path), e.Name())
			if fi, err := statPath(sibling); err != nil || fi.fileID != id {
				continue
			}
			if f, err := openCRI(sibling, false); err == nil {
				if f.fileID == id {
					return f, nil
				}
				f.Close()
			}
		}
	}
	return openCRI(path, true)
}

// lastLines returns the whole lines within the last n bytes of the file, and the file's size
// without a torn last line.
func (f criFile) lastLines(n int64) (lines []byte, whole int64, err error) {
	n = min(n, f.size)
	b := make([]byte, n)
	if _, err := f.ReadAt(b, f.size-n); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("read log: %w", err)
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	if end == 0 {
		if n == f.size {
			return nil, 0, nil
		}
		return nil, f.size, nil // not a CRI log; leave it alone and append
	}
	whole = f.size - n + int64(end)
	b = b[:end]
	if n < f.size {
		b = b[bytes.IndexByte(b, '\n')+1:]
	}
	return b, whole, nil
}

// cutTorn removes a last line that the agent did not finish before it died.
func (f *criFile) cutTorn() error {
	_, whole, err := f.lastLines(4 * maxText)
	if err != nil || whole == f.size {
		return err
	}
	if err := f.Truncate(whole); err != nil {
		return fmt.Errorf("cut torn line: %w", err)
	}
	f.size = whole
	return nil
}

// endLine ends a torn last line whose rest is unknown.
func (f *criFile) endLine() error {
	if f.size == 0 {
		return nil
	}
	last := []byte{'\n'}
	if _, err := f.ReadAt(last, f.size-1); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	if _, err := f.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	f.size++
	return nil
}

// holds reports whether the file's bytes at off are b.
func (f criFile) holds(b []byte, off int64) bool {
	var part [32 * 1024]byte
	for len(b) > 0 {
		p := part[:min(len(b), len(part))]
		if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, b[:len(p)]) {
			return false
		}
		off, b = off+int64(len(p)), b[len(p):]
	}
	return true
}
