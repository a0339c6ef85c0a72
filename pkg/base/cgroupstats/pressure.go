package cgroupstats

import (
	"bytes"
	"fmt"
	"path/filepath"
)

// Stall is how much time was lost to waiting for a resource.
type Stall struct{ Some, Full Waited }

// Waited is one line of a pressure file: shares of time in percent, and the sum in
// microseconds.
type Waited struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

// ReadStall reads a pressure file, such as those of the whole machine in /proc/pressure. It
// returns nil where the kernel does not keep it.
func ReadStall(path string) *Stall { return stall(filepath.Split(path)) }

// stall reads a pressure file. It returns nil where the kernel does not keep one.
func stall(dir, file string) *Stall {
	text, err := readFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	return parseStall(text)
}

func parseStall(text []byte) *Stall {
	s := &Stall{}
	for l := range bytes.Lines(text) {
		var kind string
		var w Waited
		if _, err := fmt.Sscanf(string(l), "%s avg10=%g avg60=%g avg300=%g total=%d", &kind, &w.Avg10, &w.Avg60, &w.Avg300, &w.Total); err != nil {
			continue
		}
		switch kind {
		case "some":
			s.Some = w
		case "full":
			s.Full = w
		}
	}
	return s
}
