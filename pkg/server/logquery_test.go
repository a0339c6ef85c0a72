package server

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWhichLogQueriesAreRefused(t *testing.T) {
	for query, want := range map[string]string{
		"query=kubelet": "", "query=a&query=b@1.service&tailLines=5&boot=-1": "", "query=/syslog": "",
		"query=":           "may not be empty",
		"query=+":          "may not be empty",
		"tailLines=5":      "may not be empty",
		"query=a;b":        "", // net/url drops it: see below
		"query=a%3bb":      "unsupported characters",
		"query=--help%20x": "unsupported characters",
		"query=a&query=b&query=c&query=d&query=e": "at most 4",
		"query=" + strings.Repeat("a", 257):       "length must be less",
		"query=/a&query=b":                        "a file and service",
		"query=/a&query=/b":                       "more than one file",
		"query=/a&tailLines=1":                    "file with options",
		"query=a&tailLines=-1":                    "between 0 and 100000",
		"query=a&tailLines=100001":                "between 0 and 100000",
		"query=a&tailLines=x":                     "invalid syntax",
		"query=a&boot=1":                          "less than 1",
		"query=a&sinceTime=yesterday":             "invalid time format",
		"query=a&pattern=(":                       "missing closing",
		"query=a&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z": "must be after",
	} {
		v, err := url.ParseQuery(query)
		if query == "query=a;b" {
			if err == nil {
				t.Error("a semicolon passes")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = parseLogQuery(v)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
}

func TestWhatTheJournalIsAskedFor(t *testing.T) {
	v, _ := url.ParseQuery("query=kubelet&query=docker&sinceTime=2026-01-02T03:04:05%2B01:00&untilTime=2026-01-03T00:00:00Z&tailLines=7&pattern=a.*b&boot=-1")
	q, err := parseLogQuery(v)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"--utc", "--no-pager", "--output=short-precise", "--since=2026-01-02 02:04:05 UTC", "--until=2026-01-03 00:00:00 UTC",
		"--pager-end", "--lines=7", "--unit=kubelet", "--unit=docker", "--grep=a.*b", "--boot=-1"}
	if got := q.journalArgs(q.services); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	journal, files := splitServices([]string{"a", "b.service", "c"}, map[string]bool{"a.service": true, "b.service": true})
	if !slices.Equal(journal, []string{"a", "b.service"}) || !slices.Equal(files, []string{"c"}) {
		t.Errorf("journal %q, files %q", journal, files)
	}
}

func TestLogsOfServicesAndFilesAreShownAndNoLinkLeadsOut(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	for path, text := range map[string]string{
		filepath.Join(dir, "mk-one.log"): "one\n", filepath.Join(dir, "mk-two", "mk-two.log"): "two\n", outside: "secret\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"mk-link.log", "file-link"} {
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"mk-within.log": filepath.Join(dir, "mk-two", "mk-two.log"), "mk-relative": "mk-one.log", "mk-dir": filepath.Join(dir, "mk-two"), "dangling": "/nowhere", "through-file": outside + "/x", "loop": filepath.Join(dir, "loop")} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	base, client := startAPI(t, &host{}, func(c *APIConfig) { c.LogsDir, c.LogQueries = dir, true })
	for query, want := range map[string]struct {
		code int
		body string
	}{
		"?query=mk-one":              {200, "one\n"},
		"?query=mk-one&query=mk-two": {200, "one\ntwo\n"},
		"?query=mk-none":             {200, "\nlog not found for mk-none\n"},
		"?query=mk-link":             {200, "\nlog not found for mk-link\n"},
		"?query=mk-one&tailLines=1":  {200, "\noptions present and query resolved to log files for [mk-one]\ntry without specifying options\n"},
		"?query=/mk-two/mk-two.log":  {200, "two\n"},
		"?query=mk-within":           {200, "two\n"},
		"?query=mk-relative":         {200, "one\n"},
		"?query=/mk-within.log":      {200, "two\n"},
		"?query=/mk-dir/mk-two.log":  {200, "two\n"},
		"?query=/mk-dir":             {400, ""},
		"?query=/../../etc/passwd":   {400, ""},
		// In the same words, whatever the target is: a link asks nothing of the rest of the node.
		"?query=/file-link":    {400, "query: Invalid value: \"/file-link\": open /file-link: file does not exist\n"},
		"?query=/dangling":     {400, "query: Invalid value: \"/dangling\": open /dangling: file does not exist\n"},
		"?query=/through-file": {400, "query: Invalid value: \"/through-file\": open /through-file: file does not exist\n"},
		"?query=/loop":         {400, "query: Invalid value: \"/loop\": open /loop: file does not exist\n"},
		"?query=/mk-two":       {400, ""},
		"?query=":              {400, "query: Invalid value: \"\": may not be empty\n"},
	} {
		code, body := ask(t, client, "GET", base+"/logs/"+query)
		if code != want.code || want.body != "" && body != want.body || strings.Contains(body, "secret\n") {
			t.Errorf("%s: %d %q, want %d %q", query, code, body, want.code, want.body)
		}
	}
	base, client = startAPI(t, &host{}, func(c *APIConfig) { c.LogsDir = dir })
	if code, body := ask(t, client, "GET", base+"/logs/?query=mk-one"); code != 200 || !strings.Contains(body, `href="mk-one.log"`) {
		t.Errorf("queries are off: %d %q, want the list of files", code, body)
	}
}
