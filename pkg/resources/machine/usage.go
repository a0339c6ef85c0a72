package machine

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// SwapUse returns the machine's swap space and how much of it is free, in bytes; 0 without swap.
func SwapUse() (total, free uint64) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	return parseSwap(text)
}

func parseSwap(text []byte) (total, free uint64) {
	for l := range bytes.Lines(text) {
		f := strings.Fields(string(l))
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseUint(f[1], 10, 64)
		switch f[0] {
		case "SwapTotal:":
			total = kib << 10
		case "SwapFree:":
			free = kib << 10
		}
	}
	return total, min(free, total)
}

// DefaultInterface returns the network interface of the machine's default route, "" without
// one.
func DefaultInterface() string {
	text, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return ""
	}
	return parseRoutes(text)
}

// parseRoutes reads lines of the form "eth0 00000000 0102A8C0 0003 …": interface, destination,
// gateway, flags, …, and the mask in the eighth place.
func parseRoutes(text []byte) string {
	for l := range bytes.Lines(text) {
		f := strings.Fields(string(l))
		if len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return f[0]
		}
	}
	return ""
}
