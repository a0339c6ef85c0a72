package evidence

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
)

// maxSockets is how much of the kernel's list is read: it begins with those that listen.
const maxSockets = 1 << 20

// listeningOf returns where processes in the network namespace of a process accept TCP connections.
func listeningOf(pid int) (all []why.Listener, known bool) {
	for _, name := range []string{"tcp", "tcp6"} {
		file, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if err != nil {
			continue // a kernel without IPv6 has no tcp6
		}
		all = append(all, listening(io.LimitReader(file, maxSockets))...)
		_ = file.Close() // it was only read
		known = true
	}
	slices.SortFunc(all, func(a, b why.Listener) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Address, b.Address))
	})
	all = slices.Compact(all)
	return all[:min(len(all), maxListening)], known
}

// stateListen is the kernel's TCP_LISTEN.
const stateListen = "0A"

// inodeField is where in a line of the kernel's list a socket's inode is.
const inodeField = 9

// listening reads the kernel's list: "sl local_address rem_address st ... inode ...", addresses as words of the machine's
// order, here little-endian.
func listening(list io.Reader) (all []why.Listener) {
	for _, s := range socketsOf(list) {
		all = append(all, s.Listener)
	}
	return all
}

// socket is one that accepts connections, with its inode in decimal digits, "" if the list does not say it.
type socket struct {
	why.Listener
	inode string
}

func socketsOf(list io.Reader) (all []socket) {
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != stateListen {
			continue
		}
		address, port, ok := strings.Cut(fields[1], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		raw, bad := hex.DecodeString(address)
		if !ok || err != nil || bad != nil || len(raw)%4 != 0 {
			continue
		}
		for word := range slices.Chunk(raw, 4) {
			slices.Reverse(word)
		}
		ip, ok := netip.AddrFromSlice(raw)
		if !ok {
			continue
		}
		s := socket{Listener: why.Listener{Address: ip.Unmap().String(), Port: int32(n)}}
		if ip.IsUnspecified() {
			s.Address = "*"
		}
		if len(fields) > inodeField {
			s.inode = fields[inodeField]
		}
		all = append(all, s)
	}
	return all
}

func keysOf(text map[string]string, binary map[string][]byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for key := range maps.Keys(text) {
			if !yield(key) {
				return
			}
		}
		for key := range maps.Keys(binary) {
			if !yield(key) {
				return
			}
		}
	}
}
