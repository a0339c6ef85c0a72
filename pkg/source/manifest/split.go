package manifest

import (
	"bytes"
	"encoding/json"
)

// piece is one document of a manifest as written.
type piece struct {
	text []byte
	json bool
	line int // of the file on which the text begins, counted from 1
}

// split cuts a manifest into its documents: YAML at the document markers "---" and
// "...", JSON between its values. Documents with only comments are left out.
// Because it cuts before parsing, a document that cannot be parsed does not hide
// those after it.
func split(data []byte) []piece {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if pieces, ok := splitJSON(data); ok {
		return pieces
	}
	var pieces []piece
	start, startLine, line := 0, 1, 1
	cut := func(end int) {
		if p := data[start:end]; !blank(p) {
			pieces = append(pieces, piece{text: p, line: startLine})
		}
	}
	for at := 0; at < len(data); line++ {
		end := at + bytes.IndexByte(data[at:], '\n') + 1
		if end == at {
			end = len(data)
		}
		switch l := data[at:end]; {
		case marks(l, "---"):
			cut(at)
			start, startLine = at, line
		case marks(l, "..."):
			cut(at)
			start, startLine = end, line+1
		}
		at = end
	}
	cut(len(data))
	return pieces
}

// splitJSON cuts a stream of JSON values. It reports false if the manifest is not
// JSON throughout.
func splitJSON(data []byte) ([]piece, bool) {
	if t := bytes.TrimLeft(data, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return nil, false
	}
	var pieces []piece
	d := json.NewDecoder(bytes.NewReader(data))
	line, counted := 1, 0
	for {
		var raw json.RawMessage
		before := int(d.InputOffset())
		if err := d.Decode(&raw); err != nil {
			rest := bytes.TrimLeft(data[before:], " \t\r\n")
			return pieces, len(rest) == 0
		}
		begin := int(d.InputOffset()) - len(raw)
		line += bytes.Count(data[counted:begin], []byte("\n"))
		counted = begin
		pieces = append(pieces, piece{text: raw, json: true, line: line})
	}
}

// marks reports whether a line is the YAML document marker, alone or before text.
func marks(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// blank reports whether a document has nothing except markers, comments and
// directives.
func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if marks(line, "---") {
			line = line[len("---"):]
		}
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}
