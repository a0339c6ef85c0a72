// Package bounds limits what the author of a pod's spec may write at any length: to
// what Linux accepts, and to what a message may repeat of it. The API server limits
// few of these strings, and the kernel would refuse a path only after it was
// copied, split and quoted at each step of the pod.
package bounds

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// How long paths, and the names that they are made of, may be in Linux, in bytes.
const (
	MaxPath = unix.PathMax - 1 // without the NUL at its end
	MaxName = 255
)

// quoted is how much of a path or command a message repeats, in bytes.
const quoted = 100

// Path refuses a path that is too long, as the kernel does. It counts the path as
// written; clean it before, if it is cleaned before use.
func Path(p string) error {
	return atMost(MaxPath, p)
}

// NewPath also refuses a path with an element that is too long to be created.
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

// Quote returns the part of a path or command that a message may repeat.
func Quote(p string) string { return Cut(p, quoted) }

// Cut returns text, or its start and "..." in at most most bytes; most is at least three.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most - len("...")
	for range utf8.UTFMax - 1 { // do not split a character
		if end == 0 || utf8.RuneStart(text[end]) {
			break
		}
		end--
	}
	return text[:end] + "..."
}

// Line is a text as a terminal may show it in a line: what is no printable character
// is written as Go escapes it. A tenant's or a runtime's text could otherwise move the
// cursor, change what stands above it, or begin a line that looks like one of ours.
func Line(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 || !unicode.IsPrint(r) {
			quoted := strconv.Quote(text[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(text[:size])
		}
		text = text[size:]
	}
	return b.String()
}
