package criconfig

import "strings"

// Expand replaces each $(NAME) in s by what lookup returns for NAME. A
// reference that lookup does not know stays as it stands, $$ is a literal $
// (so $$(NAME) is the text "$(NAME)"), and everything else is copied.
func Expand(s string, lookup func(name string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i+2:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+2+end]
			if v, ok := lookup(name); ok {
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
	return b.String()
}
