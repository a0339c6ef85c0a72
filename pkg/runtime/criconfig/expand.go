package criconfig

import (
	"errors"
	"strings"
)

// MaxArguments is how many bytes a program's arguments and environment may have
// together: Linux accepts no more (three quarters of its usual stack, 8 MiB).
const MaxArguments = 6 << 20

// ErrTooLong means that arguments and environment are longer than MaxArguments.
var ErrTooLong = errors.New("arguments and environment together are longer than the 6 MiB that Linux takes")

// Expand replaces each $(NAME) in s with what lookup returns for NAME. A reference that
// lookup does not know is left as it is, $$ is a literal $ (so $$(NAME) is the text
// "$(NAME)"), and everything else is copied. Variables that refer to variables can
// double in length with each step, so Expand returns ErrTooLong before it makes a
// result of more than most bytes.
func Expand(s string, most int, lookup func(name string) (string, bool)) (string, error) {
	if !strings.Contains(s, "$") && len(s) <= most {
		return s, nil
	}
	var b strings.Builder
	lastClose := strings.LastIndexByte(s, ')') // searched once: there may be a million $( without one
	for i := 0; i < len(s); i++ {
		if b.Len() > most {
			return "", ErrTooLong
		}
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			if i+2 > lastClose {
				b.WriteString("$(")
				i++
				continue
			}
			end := strings.IndexByte(s[i+2:], ')')
			name := s[i+2 : i+2+end]
			if v, ok := lookup(name); ok {
				if len(v) > most-b.Len() {
					return "", ErrTooLong
				}
				b.WriteString(v)
			} else {
				b.WriteString("$(" + name + ")")
			}
			i += 2 + end
		default:
			// Not a reference: both characters stand for themselves.
			b.WriteString(s[i : i+2])
			i++
		}
	}
	if b.Len() > most {
		return "", ErrTooLong
	}
	return b.String(), nil
}

// ExpandAll expands words that together may have at most most bytes; left is how many
// of these remain.
func ExpandAll(words []string, most int, lookup func(name string) (string, bool)) (out []string, left int, err error) {
	for _, w := range words {
		if w, err = Expand(w, most, lookup); err != nil {
			return nil, 0, err
		}
		out = append(out, w)
		most -= len(w)
	}
	return out, most, nil
}
