package machine

import (
	"bytes"
	"os"
	"strings"
)

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
