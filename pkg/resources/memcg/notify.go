package memcg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// stalling is what the kernel tells of, in microseconds: some process waits for memory for a tenth of half a second, or
// of two seconds. It tells at most once in such a window, and only a process with CAP_SYS_RESOURCE may have the shorter one.
var stalling = []string{"some 50000 500000", "some 200000 2000000"}

// stalls asks for the shortest window that the kernel allows.
func stalls(pressure *os.File) (err error) {
	for _, s := range stalling {
		if _, err = pressure.Write([]byte(s + "\x00")); err == nil {
			return nil
		}
	}
	return err
}

// Notifier is a wish to hear from the kernel. Close ends it.
type Notifier struct {
	files []*os.File
	stop  *os.File // an eventfd that wakes the goroutine
	done  sync.WaitGroup
}

// Notify has the kernel tell when the cgroup's use of memory, page cache included, crosses bound,
// in bytes and in either direction; or, with version 2, when processes stall for want of memory
// or the cgroup itself has run into its limit. tell is called from one goroutine, must not block, and may
// be called without cause. It is not called after Close has returned.
func (g Group) Notify(bound int64, tell func()) (*Notifier, error) {
	n := &Notifier{}
	err := g.open(n, bound)
	if err == nil {
		n.stop, err = eventFile()
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("ask the kernel about the memory of cgroup %s: %w", g.dir, err)
	}
	n.done.Go(func() { n.listen(g.v2, tell) })
	return n, nil
}

func (g Group) open(n *Notifier, bound int64) error {
	if !g.v2 {
		return g.openV1(n, bound)
	}
	pressure, root := filepath.Join(g.dir, "memory.pressure"), g.dir == mountPoint
	if root {
		pressure = "/proc/pressure/memory"
	}
	f, errStall := os.OpenFile(pressure, os.O_RDWR|unix.O_NONBLOCK, 0)
	if errStall == nil {
		n.files = append(n.files, f)
		errStall = stalls(f)
	}
	if root {
		return errStall // it has no events
	}
	// memory.events is of the groups below, too: of each container that reaches its own limit. Older kernels
	// have no other.
	f, err := os.Open(filepath.Join(g.dir, "memory.events.local"))
	if errors.Is(err, os.ErrNotExist) {
		f, err = os.Open(filepath.Join(g.dir, "memory.events"))
	}
	if err != nil {
		return errors.Join(errStall, err)
	}
	n.files = append(n.files, f)
	return nil // the kernel may keep no pressure: the events are something
}

func (g Group) openV1(n *Notifier, bound int64) error {
	usage, err := os.Open(filepath.Join(g.dir, "memory.usage_in_bytes"))
	if err != nil {
		return err
	}
	defer usage.Close() // the kernel keeps what it needs of it
	event, err := eventFile()
	if err != nil {
		return err
	}
	n.files = append(n.files, event)
	return os.WriteFile(filepath.Join(g.dir, "cgroup.event_control"), fmt.Appendf(nil, "%d %d %d", event.Fd(), usage.Fd(), bound), 0)
}

func eventFile() (*os.File, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return os.NewFile(uintptr(fd), "eventfd"), nil
}

// listen calls tell for each event until stop is written to.
func (n *Notifier) listen(v2 bool, tell func()) {
	events := int16(unix.POLLIN)
	if v2 {
		events = unix.POLLPRI
	}
	fds := []unix.PollFd{{Fd: int32(n.stop.Fd()), Events: unix.POLLIN}}
	for _, f := range n.files {
		fds = append(fds, unix.PollFd{Fd: int32(f.Fd()), Events: events})
	}
	buffer := make([]byte, 4096)
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return // it does not fail on open files
		}
		if fds[0].Revents != 0 {
			return
		}
		for i := 1; i < len(fds); i++ {
			got := fds[i].Revents
			if got == 0 {
				continue
			}
			// A file of events is always POLLERR beside POLLPRI. Without POLLPRI it is the end: of
			// the cgroup.
			if got&events == 0 || got&unix.POLLNVAL != 0 {
				fds[i].Fd = -1
			}
			_, _ = unix.Pread(int(fds[i].Fd), buffer, 0) // has the next change of the file told
			if !v2 {
				_, _ = unix.Read(int(fds[i].Fd), buffer[:8])
			}
			tell()
		}
	}
}

// Close ends the notifier and waits for the last call of tell.
func (n *Notifier) Close() {
	if n == nil {
		return
	}
	_, _ = unix.Write(int(n.stop.Fd()), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	n.done.Wait()
	n.close()
}

func (n *Notifier) close() {
	for _, f := range append(n.files, n.stop) {
		if f != nil {
			f.Close()
		}
	}
}
