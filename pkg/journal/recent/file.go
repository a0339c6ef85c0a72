package recent

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// maxFile is how many bytes the file of events may have. While it is written anew there are two.
const maxFile = 2 << 20

// lost is what is gone with a file of events that is moved aside.
const lost = "What happened before this start; the pods are what they are."

// disk is where events are kept.
type disk interface {
	// read returns whole lines, and perhaps damaged ones.
	read() ([]byte, error)
	// append adds lines. full: they do not fit, and nothing was written.
	append(lines []byte) (full bool, err error)
	// replace puts these lines in place of all others, or leaves those.
	replace(lines []byte) error
}

// file is a disk's file. It is opened for each write: somebody may have removed or replaced it, or its disk.
type file struct{ path string }

func (f file) read() ([]byte, error) {
	dir, name := filepath.Split(f.path)
	text, whole, err := safefile.ReadEnd(dir, name, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case durable.IsDamage(err):
		return nil, f.moveAside(err)
	}
	if !whole {
		_, text, _ = bytes.Cut(text, []byte{'\n'})
	}
	return text, err
}

func (f file) append(lines []byte) (full bool, err error) {
	dir, name := filepath.Split(f.path)
	out, err := safefile.OpenFile(dir, name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, safefile.ErrLinked): // writing it anew makes the directory, and a file without other names
		return true, nil
	case durable.IsDamage(err):
		return true, f.moveAside(err)
	case err != nil:
		return false, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	fi, err := out.Stat()
	if err != nil {
		return false, err
	}
	size := fi.Size()
	if size > 0 {
		// Half a line at the end is what a full disk or a crash of the machine leaves; it must not spoil the next.
		last := make([]byte, 1)
		if _, err := out.ReadAt(last, size-1); err != nil {
			return false, err
		}
		if last[0] != '\n' {
			lines = append([]byte{'\n'}, lines...)
		}
	}
	if size+int64(len(lines)) > maxFile {
		return true, nil
	}
	_, err = out.Write(lines)
	return false, err
}

func (f file) replace(lines []byte) error {
	err := durable.Write(f.path, lines)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EEXIST) { // a directory, made since the last look
		if err := f.moveAside(err); err != nil {
			return err
		}
		return durable.Write(f.path, lines)
	}
	return err
}

// moveAside makes room for a file. The error says why that cannot be done.
func (f file) moveAside(cause error) error {
	if err := durable.MoveAside(f.path, lost, cause); !errors.Is(err, durable.ErrDamaged) {
		return err
	}
	return nil
}

// logRead tells what could not be read at the start.
func logRead(path string, damaged int, err error) {
	if err != nil {
		klog.ErrorS(err, "Could not read the events from before this start", "file", path)
	}
	if damaged > 0 {
		klog.InfoS("Left out damaged lines of the events from before this start", "file", path, "lines", damaged)
	}
}
