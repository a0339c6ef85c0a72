package cgroupstats

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"unicode/utf8"
)

// Interface holds the traffic of a network interface.
type Interface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// maxInterfaces is how many interfaces of a namespace are reported: with NET_ADMIN a container
// can make any number, and each would become a metric.
const maxInterfaces = 64

// Network reads the interfaces of a process's network namespace, without loopback and without
// those whose names are not UTF-8: with one of these, a CRI message could not be sent at all.
func Network(pid int) ([]Interface, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil, fmt.Errorf("read the network of process %d: %w", pid, err)
	}
	return parseNetwork(text), nil
}

// parseNetwork reads /proc/net/dev: two lines of headings, then "name: 16 numbers".
func parseNetwork(text []byte) []Interface {
	var all []Interface
	for l := range bytes.Lines(text) {
		name, rest, ok := bytes.Cut(l, []byte(":"))
		f := bytes.Fields(rest)
		if !ok || len(f) < 12 {
			continue
		}
		i := Interface{Name: string(bytes.TrimSpace(name))}
		if i.Name == "lo" || !utf8.ValidString(i.Name) {
			continue
		}
		if len(all) == maxInterfaces {
			break
		}
		for n, to := range map[int]*uint64{
			0: &i.RxBytes, 1: &i.RxPackets, 2: &i.RxErrors, 3: &i.RxDropped,
			8: &i.TxBytes, 9: &i.TxPackets, 10: &i.TxErrors, 11: &i.TxDropped,
		} {
			*to, _ = strconv.ParseUint(string(f[n]), 10, 64)
		}
		all = append(all, i)
	}
	return all
}
