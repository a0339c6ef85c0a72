package tree

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// directory is a directory that is being read. Package os does not reveal the
// position in it, which is needed to continue after it was closed.
type directory struct {
	fd   int
	name string
	buf  []byte
	rest []byte // of buf: what was read and not yet visited
	off  int64  // after the last entry visited
	seen bool
}

// place is what is kept of a directory that is closed for a while.
type place struct {
	device, inode uint64
	off           int64
	seen          bool
}

func (d *directory) place() (place, error) {
	var st unix.Stat_t
	err := unix.Fstat(d.fd, &st)
	return place{device: st.Dev, inode: st.Ino, off: d.off, seen: d.seen}, err
}

// goOn continues reading from p; nothing was read yet.
func (d *directory) goOn(p place) error {
	d.off, d.seen = p.off, p.seen
	_, err := unix.Seek(d.fd, p.off, unix.SEEK_SET)
	return err
}

// again reads from the start, through a new descriptor: ext4 shows nothing after a
// seek to the start of one that was first read at its end.
func (d *directory) again() error {
	fd, err := openDirectory(d.fd, ".")
	if err != nil {
		return err
	}
	unix.Close(d.fd)
	*d = directory{fd: fd, name: d.name, buf: d.buf}
	return nil
}

// readSize is how much of a directory is read at once, in bytes.
const readSize = 8 << 10

// headerLength is the length of the kernel's struct linux_dirent64 without the
// name: inode (8 bytes), offset of the next entry (8), length (2), type (1).
const headerLength = 19

// next returns the name of the next entry, "" after the last one.
func (d *directory) next() (string, error) {
	for {
		if len(d.rest) == 0 {
			if d.buf == nil {
				d.buf = make([]byte, readSize)
			}
			n, err := unix.ReadDirent(d.fd, d.buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 || errors.Is(err, unix.ENOENT) { // ENOENT: it was removed
				return "", unlessGone(err)
			}
			d.rest = d.buf[:n]
		}
		length := int(binary.NativeEndian.Uint16(d.rest[16:]))
		e := d.rest[:length]
		d.rest = d.rest[length:]
		d.off = int64(binary.NativeEndian.Uint64(e[8:]))
		name, _, _ := bytes.Cut(e[headerLength:], []byte{0})
		if s := string(name); s != "." && s != ".." {
			d.seen = true
			return s, nil
		}
	}
}

func unlessGone(err error) error {
	if Gone(err) {
		return nil
	}
	return err
}
