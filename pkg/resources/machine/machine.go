// Package machine reads what the kernel says about the machine as a whole: memory,
// file systems and processes. It keeps no state.
package machine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Memory of the machine, in bytes.
type Memory struct {
	Total        int64
	Anonymous    int64 // pages that belong to processes alone
	File         int64 // pages of files and of shared memory: the page cache, with buffers and swap
	InactiveFile int64 // those of files that the kernel takes back first
	HugePages    int64 // set aside for huge pages, in use or not
	Swap         int64 // swap space, 0 without any
	SwapFree     int64
}

// Used is what processes and the page cache occupy, which is how the root of all cgroups counts, too. What the
// kernel needs for itself, as for the inodes that it remembers, is no part of it.
func (m Memory) Used() int64 { return m.Anonymous + m.File }

// WorkingSet is what is used and cannot be reclaimed at once: usage less inactive
// file pages, as the kubelet counts it.
func (m Memory) WorkingSet() int64 { return max(m.Used()-m.InactiveFile, 0) }

// Available is the rest, without what is set aside for huge pages (the kubelet's HugepageAwareEviction).
func (m Memory) Available() int64 { return max(m.Total-m.WorkingSet()-m.HugePages, 0) }

// ReadMemory reads /proc/meminfo.
func ReadMemory() (Memory, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Memory{}, fmt.Errorf("find out the node's memory: %w", err)
	}
	m, err := parseMemory(text)
	if err != nil {
		return Memory{}, fmt.Errorf("find out the node's memory: /proc/meminfo: %w", err)
	}
	return m, nil
}

func parseMemory(text []byte) (m Memory, err error) {
	var cached, buffers, swapped int64
	wanted := map[string]*int64{
		"MemTotal:": &m.Total, "AnonPages:": &m.Anonymous, "Inactive(file):": &m.InactiveFile, "Hugetlb:": &m.HugePages,
		"Cached:": &cached, "Buffers:": &buffers, "SwapCached:": &swapped,
		"SwapTotal:": &m.Swap, "SwapFree:": &m.SwapFree,
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		into := wanted[string(fields[0])]
		if into == nil {
			continue
		}
		kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("%s %w", fields[0], err)
		}
		*into = kib << 10
	}
	if m.Total == 0 {
		return Memory{}, errors.New("no MemTotal")
	}
	m.SwapFree = min(m.SwapFree, m.Swap)
	m.File = cached + buffers + swapped
	return m, nil
}

// Processes returns how many processes and threads there are, and how many there may
// be. ok is false if the kernel does not say.
func Processes() (running, most int64, ok bool) {
	most = MaxProcesses()
	load, err := os.ReadFile("/proc/loadavg") // "0.00 0.01 0.05 1/123 4567"
	if err != nil || most == 0 {
		return 0, 0, false
	}
	fields := strings.Fields(string(load))
	if len(fields) < 4 {
		return 0, 0, false
	}
	_, all, ok := strings.Cut(fields[3], "/")
	running, err = strconv.ParseInt(all, 10, 64)
	return running, most, ok && err == nil
}

// MaxProcesses is how many processes and threads the machine may have, 0 if the
// kernel does not say.
func MaxProcesses() int64 {
	most := int64(0)
	for _, path := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		if n, err := strconv.ParseInt(Line(path), 10, 64); err == nil && (most == 0 || n < most) {
			most = n
		}
	}
	return most
}

// Line returns the content of a one-line file, "" if it cannot be read.
func Line(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// FileSystem is how much of a file system is free and how large it is: bytes for users that are not
// root, and inodes. Some file systems count no inodes.
type FileSystem struct {
	Device             uint64
	Free, Size         int64
	FreeInodes, Inodes int64
}

// ReadFileSystem examines the file system of a path.
func ReadFileSystem(path string) (FileSystem, error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	err := unix.Stat(path, &st)
	if err == nil {
		err = unix.Statfs(path, &fs)
	}
	if err != nil {
		return FileSystem{}, fmt.Errorf("examine the file system of %s: %w", path, err)
	}
	return FileSystem{
		Device: st.Dev, Free: int64(fs.Bavail) * fs.Frsize, Size: int64(fs.Blocks) * fs.Frsize,
		FreeInodes: int64(fs.Ffree), Inodes: int64(fs.Files),
	}, nil
}
