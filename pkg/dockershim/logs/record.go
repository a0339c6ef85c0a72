package logs

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// maxText is the longest text of one CRI line; longer ones are split and tagged P.
// Docker splits at the same length before it writes a record.
const maxText = 16 * 1024

var (
	recordHead = []byte(`{"log":"`)
	stdoutTail = []byte(`","stream":"stdout","time":"`)
	stderrTail = []byte(`","stream":"stderr","time":"`)
	recordEnd  = []byte(`"}`)
)

// appendRecord appends to out the CRI lines of rec, one record of a Docker json-file
// log without its newline, and reports whether the record was understood. It is a pure
// function: resuming after a crash depends on equal records giving equal lines.
func appendRecord(out, rec []byte) ([]byte, bool) {
	if r, ok := appendPlain(out, rec); ok {
		return r, true
	}
	if r, ok := appendAny(out, rec); ok {
		return r, true
	}
	// A daemon that died while writing leaves the beginning of a record, to which the next
	// daemon appends. Quotes are escaped inside a record, so that a new one begins here.
	if i := bytes.LastIndex(rec, recordHead); i > 0 {
		return appendAny(out, rec[i:])
	}
	return out, false
}

// appendPlain handles a record exactly as dockerd writes it, without allocating.
func appendPlain(out, rec []byte) ([]byte, bool) {
	if !bytes.HasPrefix(rec, recordHead) || !bytes.HasSuffix(rec, recordEnd) {
		return out, false
	}
	rest := rec[:len(rec)-len(recordEnd)]
	at := bytes.LastIndexByte(rest, '"') + 1
	stamp, rest := rest[at:], rest[:at]
	if !plainTime(stamp) {
		return out, false
	}
	stream := "stdout"
	switch {
	case bytes.HasSuffix(rest, stdoutTail):
	case bytes.HasSuffix(rest, stderrTail):
		stream = "stderr"
	default:
		return out, false
	}
	if len(rest) < len(recordHead)+len(stdoutTail) {
		return out, false
	}
	text := rest[len(recordHead) : len(rest)-len(stdoutTail)]
	tag := byte('P')
	if n := len(text); n >= 2 && text[n-1] == 'n' && text[n-2] == '\\' && oddBackslashes(text[:n-1]) {
		tag, text = 'F', text[:n-2]
	}
	line := appendHead(out, stamp, stream, tag)
	begin := len(line)
	line, ok := appendUnescaped(line, text)
	if !ok || len(line)-begin > maxText {
		return out, false
	}
	return append(line, '\n'), true
}

// plainTime reports whether s looks like 2006-01-02T15:04:05.999999999Z.
func plainTime(s []byte) bool {
	if len(s) < 20 || len(s) > 30 || s[10] != 'T' || s[len(s)-1] != 'Z' {
		return false
	}
	for _, c := range s[11 : len(s)-1] {
		if (c < '0' || c > '9') && c != ':' && c != '.' {
			return false
		}
	}
	for _, c := range s[:10] {
		if (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func appendHead(out, stamp []byte, stream string, tag byte) []byte {
	out = append(out, stamp...)
	out = append(out, ' ')
	out = append(out, stream...)
	return append(out, ' ', tag, ' ')
}

func oddBackslashes(b []byte) bool {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// appendUnescaped appends the value of a JSON string, given without its quotes. It refuses
// what is not valid there, and newlines, at which appendAny splits.
func appendUnescaped(out, s []byte) ([]byte, bool) {
	for {
		i := bytes.IndexByte(s, '\\')
		plain := s
		if i >= 0 {
			plain = s[:i]
		}
		if bytes.IndexByte(plain, '"') >= 0 {
			return out, false
		}
		out = append(out, plain...)
		if i < 0 {
			return out, true
		}
		s = s[i+1:]
		if len(s) == 0 {
			return out, false
		}
		c := s[0]
		s = s[1:]
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'u':
			r, ok := hex4(s)
			if !ok || r == '\n' {
				return out, false
			}
			s = s[4:]
			if utf16.IsSurrogate(r) {
				low := rune(utf8.RuneError)
				if len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
					low, _ = hex4(s[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					s = s[6:]
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			return out, false
		}
	}
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendAny handles every valid record, such as one with attributes, with a time in
// another zone, or with newlines within the text.
func appendAny(out, rec []byte) ([]byte, bool) {
	var r struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if json.Unmarshal(rec, &r) != nil || r.Time.IsZero() || (r.Stream != "stdout" && r.Stream != "stderr") {
		return out, false
	}
	stamp := r.Time.UTC().AppendFormat(nil, time.RFC3339Nano)
	text := []byte(r.Log)
	for {
		tag, line := byte('P'), text
		i := bytes.IndexByte(text, '\n')
		if i >= 0 {
			tag, line, text = 'F', text[:i], text[i+1:]
		} else {
			text = nil
		}
		for len(line) > maxText {
			out = append(append(appendHead(out, stamp, r.Stream, 'P'), line[:maxText]...), '\n')
			line = line[maxText:]
		}
		out = append(append(appendHead(out, stamp, r.Stream, tag), line...), '\n')
		if len(text) == 0 {
			return out, true
		}
	}
}
