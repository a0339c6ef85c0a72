package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// source is one file of a container's Docker log, open for reading.
type source struct {
	*os.File
	fileInfo
}

func openFile(path string) (source, error) {
	f, err := safefile.Open(filepath.Split(path))
	if err != nil {
		return source{}, err
	}
	fi, err := statFile(f)
	if err != nil {
		f.Close()
		return source{}, err
	}
	return source{f, fi}, nil
}

// openSources opens all files of a Docker log, the newest first, each once. Docker
// rotates by renaming to higher numbers, so that a search in this order may meet a file
// twice but never misses one that was there when the search began.
func openSources(path string) ([]source, error) {
	var all []source
	for i := 0; i <= maxRotations; i++ {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		s, err := openFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("open Docker's log: %w", err)
		}
		if n := len(all); n > 0 && all[n-1].fileID == s.fileID {
			s.Close()
			continue
		}
		all = append(all, s)
	}
	return all, nil
}

func closeAll(all []source) {
	for _, s := range all {
		s.Close()
	}
}

// found is the place in Docker's log from which to go on reading.
type found struct {
	source
	next fileID // of the newer file to read when this one has been read; zero for the newest
	// restart: the file does not continue what was read before, and is read from its start.
	restart bool
	// lost: records between the position and this file are gone.
	lost bool
}

// findSource opens the file to which p refers, or the one that follows when that is gone. It
// returns os.ErrNotExist when there is no log at all (yet, or any more).
func findSource(path string, p position) (found, error) {
	s, err := openFile(path)
	if err == nil && s.fileID == p.Docker {
		if continues(s, p) {
			return found{source: s}, nil
		}
		return found{source: s, restart: true, lost: true}, nil
	}
	if err == nil {
		s.Close()
	}
	all, err := openSources(path)
	if err != nil {
		return found{}, err
	}
	if len(all) == 0 {
		return found{}, os.ErrNotExist
	}
	pick := len(all) - 1
	f := found{restart: true, lost: p.Docker.Inode != 0}
	for i, s := range all {
		if s.fileID == p.Docker && continues(s, p) {
			pick, f = i, found{}
			break
		}
	}
	f.source = all[pick]
	if pick > 0 {
		f.next = all[pick-1].fileID
	}
	closeAll(append(all[:pick:pick], all[pick+1:]...))
	return f, nil
}

// continues reports whether the bytes before the position are the ones that were read. They
// are others when someone truncated the file.
func continues(s source, p position) bool {
	if s.size < p.Offset {
		return false
	}
	if p.Offset == 0 {
		return true
	}
	var b [tailLen]byte
	n := min(p.Offset, tailLen)
	if _, err := s.ReadAt(b[:n], p.Offset-n); err != nil {
		return false
	}
	return tailSum(b[:n]) == p.Tail
}

// readRecords fills b from the file, beginning a little before off, and returns the
// whole records that follow off, and where in b they begin. Without any, the end is reached,
// or b is too small for one record (then full is true).
func readRecords(s source, off int64, b []byte) (begin, end int, full bool, err error) {
	begin = int(min(off, tailLen))
	n, err := s.ReadAt(b, off-int64(begin))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, false, fmt.Errorf("read Docker's log: %w", err)
	}
	for end = n; end > begin && b[end-1] != '\n'; end-- {
	}
	if end <= begin {
		return begin, begin, n == len(b), nil
	}
	return begin, end, false, nil
}
