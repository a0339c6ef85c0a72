package diskusage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Space is how much of a volume is used, and how large it is. What is not known is nil.
type Space struct {
	At                             time.Time
	Capacity, Available, Used      *uint64 // bytes
	Inodes, InodesFree, InodesUsed *uint64
}

// FileSystems asks file systems how full they are. The zero value is ready to use, by several
// at a time.
type FileSystems struct {
	// hanging are the paths whose file systems have not answered yet. The kernel lets nobody
	// interrupt them, and asking again would hang again.
	hanging sync.Map
}

// Files measures what the files below path occupy of the file system that they are on, as Of
// does.
func (f *FileSystems) Files(ctx context.Context, path string) (Space, error) {
	at := time.Now()
	used, err := Of(ctx, path)
	if err != nil {
		return Space{}, err
	}
	s, err := f.Whole(ctx, path)
	if err != nil {
		return Space{}, err
	}
	s.At, s.Used, s.InodesUsed = at, &used.Bytes, &used.Inodes
	return s, nil
}

// longestStat is how long a file system may take to answer: one whose server is gone answers
// never.
const longestStat = 10 * time.Second

// Whole measures the file system that path is on. It returns an error when ctx ends or the
// file system does not answer; it is then not asked again until it has.
func (f *FileSystems) Whole(ctx context.Context, path string) (Space, error) {
	if _, before := f.hanging.LoadOrStore(path, true); before {
		return Space{}, fmt.Errorf("measure %s: its file system is being asked and does not answer", path)
	}
	type answer struct {
		fs  unix.Statfs_t
		err error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		a.err = unix.Statfs(path, &a.fs)
		f.hanging.Delete(path) // before it is told: whoever hears the answer may ask at once
		done <- a
	}()
	ctx, cancel := context.WithTimeout(ctx, longestStat)
	defer cancel()
	select {
	case a := <-done:
		if a.err != nil {
			return Space{}, fmt.Errorf("measure the file system of %s: %w", path, a.err)
		}
		return spaceOf(&a.fs), nil
	case <-ctx.Done():
		return Space{}, fmt.Errorf("measure the file system of %s: %w", path, ctx.Err())
	}
}

func spaceOf(fs *unix.Statfs_t) Space {
	size := uint64(fs.Frsize)
	capacity, available, used := fs.Blocks*size, fs.Bavail*size, (fs.Blocks-fs.Bfree)*size
	inodes, free, inUse := fs.Files, fs.Ffree, fs.Files-fs.Ffree
	return Space{time.Now(), &capacity, &available, &used, &inodes, &free, &inUse}
}
