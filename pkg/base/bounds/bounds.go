// Package bounds holds what the author of a pod's spec writes at any length to what
// Linux takes, and to what a message may repeat of it. The API server bounds few of
// these strings, and the kernel would refuse a path only after it was copied, split
// and quoted, at each step of the pod.
package bounds

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// How long Linux takes paths, and the names that they are made of, in bytes.
const (
	MaxPath = unix.PathMax - 1 // without the NUL at its end
	MaxName = 255
)

// quoted is how much of a path or a command a message repeats, in bytes.
const quoted = 100

// Path refuses, as the kernel does, a path that is too long. It counts the path as it is
// written; one that is cleaned before it is used is to be cleaned before it is counted.
func Path(p string) error {
	return atMost(MaxPath, p)
}

// NewPath refuses as well a path of which a part is too long to be made.
func NewPath(p string) error {
	if err := Path(p); err != nil {
		return err
	}
	for name := range strings.SplitSeq(p, "/") {
		if err := atMost(MaxName, name); err != nil {
			return err
		}
	}
	return nil
}

func atMost(most int, p string) error {
	if len(p) > most {
		return fmt.Errorf("%q: %w", Quote(p), unix.ENAMETOOLONG)
	}
	return nil
}

// Quote returns what a message is to repeat of a path or a command.
func Quote(p string) string { return Cut(p, quoted) }

// Cut returns text, or its start and "..." in at most most bytes, which are three or more.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most - len("...")
	for range utf8.UTFMax - 1 { // no part of a character
		if end == 0 || utf8.RuneStart(text[end]) {
			break
		}
		end--
	}
	return text[:end] + "..."
}
