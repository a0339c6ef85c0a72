package source

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxManifest is the kubelet's limit for a manifest.
	maxManifest = 10 << 20
	// A file that somebody has open for writing is read when it has not changed for
	// heldFor; if the file system cannot tell, when it has not changed for unsureFor.
	heldFor, unsureFor = 2 * time.Second, 20 * time.Millisecond
	// retryFirst doubles up to retryMost while a file is being written.
	retryFirst, retryMost = 5 * time.Millisecond, 250 * time.Millisecond
)

// stamp distinguishes versions of a file's content without reading it.
type stamp struct {
	dev, ino   uint64
	size       int64
	mtim, ctim unix.Timespec
	mode       uint32
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtim: st.Mtim, ctim: st.Ctim, mode: st.Mode}
}

// reading reads a file each time it has changed, but not while it is being written:
// half a manifest can be valid.
type reading struct {
	read  bool  // at least once, successfully or not
	last  stamp // as of the last read
	fresh stamp // changed, not yet read
	since time.Time
	retry time.Duration // look again after that; 0: only when something happens
	fault string
	// unsized: its size is not that of its content, as in /proc and in file systems that make the
	// content when it is read. Such a file is read at each look, since nothing else shows a change.
	unsized bool
	sum     [sha256.Size]byte // of the content last returned of it
}

// next returns the file's content if it has changed since the last read, or nil. An
// error is returned at every call until it is resolved.
func (r *reading) next(path string, now time.Time) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		var link unix.Stat_t
		if errors.Is(err, unix.ENOENT) && unix.Lstat(path, &link) != nil {
			r.retry = retryFirst // gone since the directory was listed
			return nil, nil
		}
		if errors.Is(err, unix.ENOENT) {
			err = errors.New("points to a file that does not exist")
		}
		return nil, r.fail(stamp{}, err)
	}
	current := stampOf(&st)
	if r.read && current == r.last && !r.unsized {
		r.retry = 0
		if r.fault != "" {
			return nil, errors.New(r.fault)
		}
		return nil, nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, r.fail(current, errors.New("is not a regular file, and is not read"))
	}
	if st.Size > maxManifest {
		return nil, r.fail(current, errTooLarge)
	}
	if current != r.fresh {
		r.fresh, r.since = current, now
		r.retry = 0
	}
	data, after, err := readSettled(path, now.Sub(r.since))
	unsized := err == nil && int64(len(data)) != after.size
	switch {
	case errors.Is(err, errUnsettled):
		r.retry = min(max(2*r.retry, retryFirst), retryMost)
		return nil, nil
	case err != nil:
		return nil, r.fail(stamp{}, err) // tried again at every look
	}
	sum := sha256.Sum256(data)
	same := r.read && r.fault == "" && r.unsized && unsized && sum == r.sum
	r.read, r.last, r.retry, r.fault = true, after, 0, ""
	r.unsized, r.sum = unsized, sum
	if same {
		return nil, nil
	}
	return data, nil
}

func (r *reading) fail(at stamp, err error) error {
	r.read, r.last, r.retry, r.fault, r.unsized = true, at, 0, err.Error(), false
	return err
}

var errTooLarge = fmt.Errorf("is larger than %d MiB", maxManifest>>20)

var errUnsettled = errors.New("the file is being written")

// readSettled reads a regular file that nobody is writing. It has looked unchanged
// for the given time.
func readSettled(path string, same time.Duration) ([]byte, stamp, error) {
	// Without O_NONBLOCK, opening a pipe that took the file's place would block.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	fd := int(f.Fd())
	var before, after unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return nil, stamp{}, err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, stamp{}, errUnsettled
	}
	switch held, known := openForWriting(fd); {
	case held && same < heldFor, !known && same < unsureFor:
		return nil, stamp{}, errUnsettled
	}
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, stamp{}, err
	}
	if err := unix.Fstat(fd, &after); err != nil {
		return nil, stamp{}, err
	}
	switch {
	case stampOf(&before) != stampOf(&after):
		return nil, stamp{}, errUnsettled
	case len(data) > maxManifest:
		return nil, stamp{}, errTooLarge
	case int64(len(data)) != after.Size && after.Size > 0 && same < heldFor:
		// Written between two looks, unless it stays so: then the file system does not know the size.
		return nil, stamp{}, errUnsettled
	}
	if data == nil {
		data = []byte{}
	}
	return data, stampOf(&after), nil
}

// openForWriting reports whether anybody has the file open for writing: the kernel
// then grants no read lease. This is unknown where leases are not supported, and
// for files of other users without CAP_LEASE.
func openForWriting(fd int) (held, known bool) {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return false, true
	case errors.Is(err, unix.EAGAIN):
		return true, true
	}
	return false, false
}
