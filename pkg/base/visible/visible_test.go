package visible

import (
	"bytes"
	"testing"
)

func TestWhatATerminalObeysIsShown(t *testing.T) {
	for _, tt := range []struct{ text, part, lines string }{
		{"", "", ""},
		{"plain: é, 世界, 🙂, a\u0301", "plain: é, 世界, 🙂, a\u0301", "plain: é, 世界, 🙂, a\u0301"},
		{"\x1b[2J\x1b]0;title\a", `\u001b[2J\u001b]0;title\u0007`, `\u001b[2J\u001b]0;title\u0007`},
		{"one\ntwo\tthree\r", `one\u000atwo\u0009three\u000d`, "one\ntwo\tthree" + `\u000d`},
		{"\u009b31m \u007f \u202egpj.exe \u2028", `\u009b31m \u007f \u202egpj.exe \u2028`, `\u009b31m \u007f \u202egpj.exe \u2028`},
		{"\x9b31m \xff", `\u009b31m \u00ff`, `\u009b31m \u00ff`},
	} {
		if got := Text(tt.text); got != tt.part {
			t.Errorf("Text(%q) = %q, want %q", tt.text, got, tt.part)
		}
		for size := 1; size < 5; size++ { // however it is cut
			var out bytes.Buffer
			w := Lines(&out)
			for rest := []byte(tt.text); len(rest) > 0; {
				n, err := w.Write(rest[:min(size, len(rest))])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if out.String() != tt.lines {
				t.Errorf("Lines, by %d: %q of %q, want %q", size, out.String(), tt.text, tt.lines)
			}
		}
	}
	if got := Text("half \xe4\xb8"); got != `half \u00e4\u00b8` {
		t.Errorf("%q", got)
	}
}
