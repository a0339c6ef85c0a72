// Package visible shows text of others to a person: what a pod, an image or a manifest is
// called and what a message quotes of it can hold characters that a terminal obeys. They
// are written as escapes, \u001b for the one that begins most sequences.
package visible

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Text is text as a part of a line: also without line breaks and tabs.
func Text(text string) string {
	if !strings.ContainsFunc(text, obeyed) && utf8.ValidString(text) {
		return text
	}
	out, rest := escape(nil, []byte(text), obeyed)
	return string(escapeBytes(out, rest))
}

// Lines returns a writer that leaves line breaks and tabs as they are. Safe for concurrent use, as
// far as w is. A character may be split between two writes; what is left of one at
// the end is lost.
func Lines(w io.Writer) io.Writer { return &lines{to: w} }

type lines struct {
	to   io.Writer
	mu   sync.Mutex
	rest []byte // of a character that is not whole yet
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []byte
	out, l.rest = escape(nil, append(l.rest, p...), func(r rune) bool { return r != '\n' && r != '\t' && obeyed(r) })
	if _, err := l.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// obeyed reports whether a terminal may act on a character instead of showing it: control
// characters, and those that change the direction of what follows.
func obeyed(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// escape appends text to out, and returns the beginning of a character at its end that is not
// whole.
func escape(out, text []byte, bad func(rune) bool) (_, rest []byte) {
	for len(text) > 0 {
		if !utf8.FullRune(text) {
			return out, append([]byte(nil), text...)
		}
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			out = escapeBytes(out, text[:1])
		case bad(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out, nil
}

// escapeBytes appends bytes that are no text. Some terminals obey 0x9b.
func escapeBytes(out, text []byte) []byte {
	for _, b := range text {
		out = fmt.Appendf(out, `\u%04x`, b)
	}
	return out
}
