package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLogFilesAreShownAndNoLinkLeadsOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.MkdirAll(at("pods/uid"), 0o755), os.Mkdir(at("containers"), 0o755),
		os.WriteFile(at("pods/uid/0.log"), []byte("a line\n"), 0o644),
		os.WriteFile(filepath.Join(outside, "file"), []byte("secret\n"), 0o644),
		os.Symlink(at("pods/uid/0.log"), at("containers/web.log")), // as the agent links them
		os.Symlink("../pods/uid/0.log", at("containers/relative.log")),
		os.Symlink(filepath.Join(outside, "file"), at("out")),
		os.Symlink(filepath.Join(outside, "none"), at("out-to-none")),
		os.Symlink(outside, at("out-dir")),
		unix.Mkfifo(at("pipe"), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	base, client := startAPI(t, &host{}, func(c *APIConfig) { c.LogsDir = dir })
	const missing = "404 page not found\n"
	for path, want := range map[string]struct {
		code int
		body string // a part of it
	}{
		"":                        {200, `href="containers/"`},
		"containers/":             {200, `href="web.log"`},
		"containers/web.log":      {200, "a line\n"},
		"containers/relative.log": {200, "a line\n"},
		"pods/uid/0.log":          {200, "a line\n"},
		"out":                     {404, missing},
		"out-to-none":             {404, missing},
		"out-dir":                 {404, missing},
		"out-dir/file":            {404, missing},
		"pipe":                    {404, missing},
	} {
		code, body := ask(t, client, "GET", base+"/logs/"+path)
		if code != want.code || !strings.Contains(body, want.body) || strings.Contains(body, "secret\n") {
			t.Errorf("%q: %d %q, want %d %q", path, code, body, want.code, want.body)
		}
	}
}
