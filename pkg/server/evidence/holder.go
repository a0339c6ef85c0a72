package evidence

import (
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
)

// Bounds of a search through the node's processes: how many are looked at, and how many open files of each.
const (
	maxProcesses = 1 << 15
	maxFiles     = 1 << 12
)

// holderOf finds the process that accepts TCP connections at a port of an address, "" for any, in the agent's network namespace. It is not known where
// the agent may not see what other processes have open, or if there are too many of them to look at in time.
func holderOf(ctx context.Context, proc, ip string, port int32) (why.Process, bool) {
	at, err := netip.ParseAddr(ip)
	any := err != nil || at.IsUnspecified()
	sockets := map[string]bool{}
	for _, name := range []string{"tcp", "tcp6"} {
		file, err := os.Open(filepath.Join(proc, "self", "net", name))
		if err != nil {
			continue // a kernel without IPv6 has no tcp6
		}
		for _, s := range socketsOf(io.LimitReader(file, maxSockets)) {
			if s.Port == port && (any || s.Address == "*" || s.Address == at.Unmap().String()) && s.inode != "" && s.inode != "0" {
				sockets["socket:["+s.inode+"]"] = true
			}
		}
		_ = file.Close() // it was only read
	}
	if len(sockets) == 0 {
		return why.Process{}, false
	}
	for _, name := range entries(proc, maxProcesses) {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		files := filepath.Join(proc, name, "fd")
		for _, fd := range entries(files, maxFiles) {
			if to, err := os.Readlink(filepath.Join(files, fd)); err == nil && sockets[to] {
				return why.Process{PID: pid, Name: commOf(filepath.Join(proc, name, "comm"))}, true
			}
		}
	}
	return why.Process{}, false
}

// entries returns names in a directory, at most so many; none of one that cannot be read, as of a process that has ended.
func entries(dir string, most int) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(most) // what was read before an error counts
	return names
}

// commOf is how a process calls itself, which can be anything: what is no letter, digit or sign is shown as "?".
func commOf(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return "?"
	}
	defer file.Close()
	text, _ := io.ReadAll(io.LimitReader(file, 64))
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, strings.TrimSuffix(string(text), "\n"))
}
