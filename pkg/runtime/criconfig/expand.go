package criconfig

import (
	"errors"
	"strings"
)

// MaxArguments is how long a program's arguments and environment may be together, in
// bytes: Linux takes no more of them (three quarters of its usual stack, 8 MiB).
const MaxArguments = 6 << 20

// ErrTooLong is why arguments and environment are not put together.
var ErrTooLong = errors.New("arguments and environment together are longer than the 6 MiB that Linux takes")

// Expand replaces each $(NAME) in s by what lookup returns for NAME. A
// reference that lookup does not know stays as it stands, $$ is a literal $
// (so $$(NAME) is the text "$(NAME)"), and everything else is copied. Variables
// that refer to variables double with each, so that a result of more than most bytes is
// ErrTooLong before it is there.
func Expand(s string, most int, lookup func(name string) (string, bool)) (string, error) {
	if !strings.Contains(s, "$") && len(s) <= most {
		return s, nil
	}
	var b strings.Builder
	lastClose := strings.LastIndexByte(s, ')') // looked for once: there may be a million $( without one
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

// ExpandAll expands words that together are at most most bytes long; left is what they
// are shorter.
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
