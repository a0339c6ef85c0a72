// Package memcg reads what a cgroup uses of memory, and has the kernel tell when that nears a
// bound:
//
//	version 1   a threshold on memory.usage_in_bytes, by cgroup.event_control and an eventfd
//	version 2   a stall on memory (PSI) of 200 ms in two seconds, and changes of memory.events.local
//
// Version 2 has no thresholds: a stall says that the kernel has begun to take memory back.
// Whoever listens has to look himself what is left; an event only says when.
package memcg

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const mountPoint = "/sys/fs/cgroup"

// Group is the memory cgroup of something.
type Group struct {
	dir string
	v2  bool
}

// Root is the cgroup of the whole machine.
const Root = ""

// Of returns the memory cgroup with that path below the root of all cgroups.
func Of(path string) Group {
	if _, err := os.Stat(filepath.Join(mountPoint, "cgroup.controllers")); err == nil {
		return Group{filepath.Join(mountPoint, path), true}
	}
	return Group{filepath.Join(mountPoint, "memory", path), false}
}

// Bounded reports whether Notify goes by its bound.
func (g Group) Bounded() bool { return !g.v2 }

// Usage of a cgroup and of those below it, in bytes.
type Usage struct {
	Used         int64 // page cache included
	InactiveFile int64 // the part of it that the kernel takes back first
	Limit        int64 // 0: none
}

// WorkingSet is what cannot be taken back at once, as the kubelet counts it.
func (u Usage) WorkingSet() int64 { return max(u.Used-u.InactiveFile, 0) }

// noLimit is beyond what a machine has: version 1 shows the absence of a limit as a huge number.
const noLimit = 1 << 62

// Read reads the cgroup. The root of version 2 has no such files.
func (g Group) Read() (Usage, error) {
	used, limit, inactive := "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"
	if g.v2 {
		used, limit, inactive = "memory.current", "memory.max", "inactive_file"
	}
	u, err := g.read(used, limit, inactive)
	if err != nil {
		return Usage{}, fmt.Errorf("find out what cgroup %s uses of memory: %w", g.dir, err)
	}
	return u, nil
}

func (g Group) read(used, limit, inactive string) (u Usage, err error) {
	if u.Used, err = g.number(used); err != nil {
		return u, err
	}
	if u.Limit, err = g.number(limit); err != nil {
		return u, err
	}
	if u.Limit >= noLimit {
		u.Limit = 0
	}
	text, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		return u, err
	}
	u.InactiveFile, err = field(text, inactive)
	return u, err
}

// number reads a file of one number; "max" is none.
func (g Group) number(file string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, err
	}
	text = bytes.TrimSpace(text)
	if string(text) == "max" {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return noLimit, nil
	}
	return n, err
}

// field finds the number after a name in lines of both.
func field(text []byte, name string) (int64, error) {
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == name {
			return strconv.ParseInt(string(f[1]), 10, 64)
		}
	}
	return 0, fmt.Errorf("memory.stat has no %s", name)
}
