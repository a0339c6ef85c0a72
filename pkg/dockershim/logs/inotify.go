package logs

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// inotify is one inotify instance for all logs. The kernel merges events that wait to be
// read, so that reading them only every few milliseconds costs the same for any number of
// lines. fsnotify reads at once and allocates an event for each line, which is why it is not
// used.
type inotify struct{ file *os.File }

func newInotify() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create inotify instance: %w", err)
	}
	return &inotify{os.NewFile(uintptr(fd), "inotify")}, nil
}

// add watches the entries of a directory for changes.
func (n *inotify) add(dir string) (watch int32, err error) {
	err = n.control(func(fd int) error {
		wd, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
		watch = int32(wd)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("watch %s: %w", dir, err)
	}
	return watch, nil
}

// remove ends a watch. When the directory is gone, the kernel has ended it already.
func (n *inotify) remove(watch int32) {
	_ = n.control(func(fd int) error {
		_, err := unix.InotifyRmWatch(fd, uint32(watch))
		return err
	})
}

func (n *inotify) control(do func(fd int) error) error {
	conn, err := n.file.SyscallConn()
	if err != nil {
		return err
	}
	var doErr error
	if err := conn.Control(func(fd uintptr) { doErr = do(int(fd)) }); err != nil {
		return err
	}
	return doErr
}

// read waits for events and returns their watches; overflow means that events of any watch
// may have been dropped. It fails when the instance is closed.
func (n *inotify) read(buf []byte, changed map[int32]struct{}) (overflow bool, err error) {
	got, err := n.file.Read(buf)
	if err != nil {
		return false, err
	}
	for b := buf[:got]; len(b) >= unix.SizeofInotifyEvent; {
		watch := int32(binary.NativeEndian.Uint32(b[0:4]))
		mask := binary.NativeEndian.Uint32(b[4:8])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:16]))
		overflow = overflow || mask&unix.IN_Q_OVERFLOW != 0
		changed[watch] = struct{}{}
		b = b[min(size, len(b)):]
	}
	return overflow, nil
}

func (n *inotify) close() { n.file.Close() }
