package bounds

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPaths(t *testing.T) {
	name := strings.Repeat("n", MaxName)
	deep := strings.Repeat("a/", MaxPath/2) + "b"
	for _, tt := range []struct {
		name      string
		path      string
		ok, asNew bool
	}{
		{"none", "", true, true},
		{"the longest", deep, true, true},
		{"one byte more", deep + "c", false, false},
		{"very long", strings.Repeat("a/", 20_000) + "n", false, false},
		{"the longest name", "a/" + name + "/b", true, true},
		{"a longer name", "a/" + name + "n/b", true, false},
		{"a longer name at the end", "/" + name + "n", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, got := range []struct {
				err error
				ok  bool
			}{{Path(tt.path), tt.ok}, {NewPath(tt.path), tt.asNew}} {
				err, ok := got.err, got.ok
				if (err == nil) != ok || err != nil && (!errors.Is(err, unix.ENAMETOOLONG) || len(err.Error()) > 150) {
					t.Errorf("error %v, want none: %v", err, ok)
				}
			}
		})
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		text string
		most int
		want string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "..."}, {"abcdefgh", 7, "abcd..."},
		{"abcé", 5, "abcé"}, {"abcéfgh", 7, "abc..."}, {"é€𐍈x", 8, "é€..."}, {"é€𐍈x", 7, "é..."},
		{"\xa9\xa9\xa9\xa9\xa9\xa9\xa9\xa9\xa9", 8, "\xa9\xa9..."}, // no text at all
	} {
		if got := Cut(tt.text, tt.most); got != tt.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", tt.text, tt.most, got, tt.want)
		}
	}
}

func TestALineMovesNoCursor(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"plain, grün, 日本":         "plain, grün, 日本",
		"\x1b[2J\x1b]0;title\x07": `\x1b[2J\x1b]0;title\a`,
		"a\nb\rc\td\x00":          `a\nb\rc\td\x00`,
		"\u009b31m":               `\u009b31m`, // the same as ESC [, in one character
		"\x9b31m":                 `\x9b31m`,
		"\u202eevil":              `\u202eevil`, // right to left from here
	} {
		if got := Line(text); got != want {
			t.Errorf("Line(%q) = %s, want %s", text, got, want)
		}
	}
}
