package logs

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAppendRecord(t *testing.T) {
	const at = `"time":"2026-11-21T03:30:03.714085622Z"}`
	long := strings.Repeat("x", maxText)
	tests := map[string]struct {
		record, want string
		bad          bool
		slow         bool // not for the fast path
	}{
		"whole line":                     {record: `{"log":"hi\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F hi\n"},
		"stderr":                         {record: `{"log":"oops\n","stream":"stderr",` + at, want: "2026-11-21T03:30:03.714085622Z stderr F oops\n"},
		"no newline is a partial line":   {record: `{"log":"hi","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout P hi\n"},
		"backslash and n is no newline":  {record: `{"log":"hi\\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout P hi\\n\n"},
		"backslash before the newline":   {record: `{"log":"hi\\\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F hi\\\n"},
		"empty line":                     {record: `{"log":"\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F \n"},
		"time without fraction":          {record: `{"log":"a\n","stream":"stdout","time":"2026-11-21T03:30:03Z"}`, want: "2026-11-21T03:30:03Z stdout F a\n"},
		"tty keeps its carriage return":  {record: `{"log":"a\r\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F a\r\n"},
		"escapes":                        {record: `{"log":"\"q\" \u003ctag\u003e \t\b\f\/ \u00e9 \ud83d\ude00 \u2028\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F \"q\" <tag> \t\b\f/ é 😀 \u2028\n"},
		"lone surrogate":                 {record: `{"log":"\ud83dx\ud83d\u0041\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F \ufffdx\ufffdA\n"},
		"text that looks like a record":  {record: `{"log":"{\"log\":\"x\\n\",\"stream\":\"stderr\"}\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F {\"log\":\"x\\n\",\"stream\":\"stderr\"}\n"},
		"as long as Docker makes them":   {record: `{"log":"` + long + `\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F " + long + "\n"},
		"longer is split":                {record: `{"log":"` + long + `yz\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout P " + long + "\n2026-11-21T03:30:03.714085622Z stdout F yz\n", slow: true},
		"newline within the text":        {record: `{"log":"a\nb","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F a\n2026-11-21T03:30:03.714085622Z stdout P b\n", slow: true},
		"attributes":                     {record: `{"log":"a\n","stream":"stdout","attrs":{"time":"x"},` + at, want: "2026-11-21T03:30:03.714085622Z stdout F a\n", slow: true},
		"another zone":                   {record: `{"log":"a\n","stream":"stdout","time":"2026-11-21T03:30:03.5+01:00"}`, want: "2026-11-21T02:30:03.5Z stdout F a\n", slow: true},
		"after a record that was cut":    {record: `{"log":"half a rec{"log":"a\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F a\n", slow: true},
		"after zeroes from a power cut":  {record: "\x00\x00\x00" + `{"log":"a\n","stream":"stdout",` + at, want: "2026-11-21T03:30:03.714085622Z stdout F a\n", slow: true},
		"empty":                          {record: ``, bad: true, slow: true},
		"not JSON":                       {record: `hello`, bad: true, slow: true},
		"unknown stream":                 {record: `{"log":"a\n","stream":"stdin",` + at, bad: true, slow: true},
		"no time":                        {record: `{"log":"a\n","stream":"stdout"}`, bad: true, slow: true},
		"time that is none":              {record: `{"log":"a\n","stream":"stdout","time":"yesterday"}`, bad: true, slow: true},
		"quote that ends the text early": {record: `{"log":"a"b\n","stream":"stdout",` + at, bad: true, slow: true},
		"escape that ends the text":      {record: `{"log":"a\","stream":"stdout",` + at, bad: true, slow: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := appendRecord([]byte("before|"), []byte(tc.record))
			if ok == tc.bad || string(got) != "before|"+tc.want {
				t.Errorf("got %q, %v, want %q", got, ok, tc.want)
			}
			if _, ok := appendPlain(nil, []byte(tc.record)); ok == tc.slow {
				t.Errorf("fast path: got %v, want %v", ok, !tc.slow)
			}
		})
	}
}

// The fast path gives what encoding/json gives, and lines are well formed.
func FuzzAppendRecord(f *testing.F) {
	f.Add([]byte("hi\n"), []byte(""))
	f.Add([]byte("a\\\"<>&\u2028\x00\xff"), []byte(`{"log":"x\n","stream":"stderr","time":"2026-11-21T03:30:03Z"}`))
	f.Fuzz(func(t *testing.T, text, raw []byte) {
		if out, ok := appendRecord(nil, bytes.ReplaceAll(raw, []byte("\n"), nil)); ok {
			for line := range bytes.Lines(out) {
				checkLine(t, line)
			}
		} else if len(out) > 0 {
			t.Fatalf("output %q of a bad record", out)
		}

		now := time.Date(2026, 11, 21, 3, 30, 3, 714085622, time.UTC)
		rec, err := json.Marshal(map[string]any{"log": string(text), "stream": "stdout", "time": now})
		if err != nil {
			t.Fatal(err)
		}
		slow, ok := appendAny(nil, rec)
		if !ok {
			t.Fatalf("valid record %q refused", rec)
		}
		if fast, ok := appendPlain(nil, rec); ok && !bytes.Equal(fast, slow) {
			t.Fatalf("fast path gives %q, encoding/json %q", fast, slow)
		}
		var whole []byte
		for line := range bytes.Lines(slow) {
			whole = append(whole, checkLine(t, line)...)
		}
		if want := strings.ToValidUTF8(string(text), "\ufffd"); utf8.Valid(text) && string(whole) != want {
			t.Fatalf("got %q, want %q", whole, want)
		}
	})
}

// checkLine returns the text of a CRI line, with a newline when it is tagged F.
func checkLine(t *testing.T, line []byte) []byte {
	t.Helper()
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) != 4 || !bytes.HasSuffix(line, []byte("\n")) {
		t.Fatalf("malformed line %q", line)
	}
	if len(fields[0]) < 20 || (string(fields[1]) != "stdout" && string(fields[1]) != "stderr") {
		t.Fatalf("malformed head of %q", line)
	}
	switch string(fields[2]) {
	case "F":
		return fields[3]
	case "P":
		return fields[3][:len(fields[3])-1]
	}
	t.Fatalf("tag of %q", line)
	return nil
}
