package oom

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernelLog is where the kernel gives its messages away, one record a read.
const kernelLog = "/dev/kmsg"

// openKernelLog opens the kernel's messages behind those that are there already: these are
// from before the agent began, and an earlier one has told them.
func openKernelLog() (io.ReadCloser, error) {
	f, err := os.Open(kernelLog)
	if err != nil {
		return nil, err
	}
	if err := atEnd(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", kernelLog, err)
	}
	return f, nil
}

func atEnd(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// Containers often have the console in this place, or nothing to read at all.
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || info.Mode()&os.ModeCharDevice == 0 || s.Rdev != unix.Mkdev(1, 11) {
		return fmt.Errorf("not the kernel's log (character device 1:11)")
	}
	_, err = f.Seek(0, io.SeekEnd)
	return err
}
