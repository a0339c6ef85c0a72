package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/replay"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

// decision is a line of a worker that goes on at its usual time.
func decision(seq int, pod, output string) string {
	text, _ := json.Marshal(journal.ShownDecision{Seq: uint64(seq), Function: worker.Decide, UID: "u-" + pod, Pod: pod, Input: json.RawMessage(`{"phase":1}`), Output: output})
	return string(text) + "\n"
}

const asDecided = "syncing, is looked at again"

// pack makes a file of these entries.
func pack(t *testing.T, entries ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	archive := tar.NewWriter(zip)
	for _, h := range entries {
		content := h.PAXRecords["content"]
		h.PAXRecords = nil
		if h.Size == 0 {
			h.Size = int64(len(content))
		}
		if err := archive.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		for left := h.Size - int64(len(content)); left > 0; { // of zeros
			n := min(left, 1<<20)
			if _, err := archive.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			left -= n
		}
	}
	if err := archive.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return written(t, b.Bytes())
}

func written(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.mkb")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func entry(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, PAXRecords: map[string]string{"content": content}}
}

var version1 = entry(replay.VersionsFile, `{"bundle":1}`)

// replayed runs the command.
func replayed(path string) (stdout, stderr string, err error) {
	cmd := newReplayCommand()
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs([]string{path})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err = cmd.ExecuteContext(context.Background())
	return out.String(), errs.String(), err
}

func TestReplayTellsWhatComesOutDifferently(t *testing.T) {
	out, _, err := replayed(pack(t, version1, entry(replay.DecisionsFile, decision(1, "web", asDecided)+decision(2, "web", asDecided))))
	if err != nil || out != "2 decisions, 0 come out differently\n" {
		t.Errorf("%q, %v", out, err)
	}
	hostile := strings.Repeat("x\x1b[2J", 1000)
	out, errs, err := replayed(pack(t, version1, entry(replay.DecisionsFile,
		decision(1, "web", asDecided)+decision(412, "we\x1bb", "terminating")+decision(413, "web", hostile)+`{"function":"later"}`+"\n"+
			`{"seq":414,"function":"computeActions","input":{"pod":{}},"output":"`+asDecided+`"}`+"\n")))
	var code exitCode
	if c, ok := err.(exitCode); ok {
		code = c
	}
	if code.code != 1 || !strings.Contains(out, ` decide we\u001bb: recorded "terminating", now "`+asDecided+`"`) || !strings.HasPrefix(out, "#412 ") ||
		!strings.HasSuffix(out, "4 decisions, 3 come out differently\n") || !strings.Contains(errs, "1 more are of functions") {
		t.Errorf("%q, %q, %v", out, errs, err)
	}
	if strings.Contains(out, "\x1b") || len(out) > 10<<10 {
		t.Errorf("%d bytes: %.300q", len(out), out)
	}
}

func TestHostileBundlesAreRefused(t *testing.T) {
	link := version1
	link.Typeflag, link.Linkname, link.PAXRecords = tar.TypeSymlink, "/etc/shadow", nil
	huge := entry(replay.JournalFile, "")
	huge.Size = replay.MaxPart + 1
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := func(name string) tar.Header { return entry(name, "") }
	for what, path := range map[string]string{
		"nothing":           written(t, nil),
		"garbage":           written(t, bytes.Repeat([]byte("garbage"), 1000)),
		"no tar":            written(t, gzipped(t, []byte("garbage"))),
		"zeros":             written(t, gzipped(t, nil)),
		"a pipe":            pipe,
		"a directory":       t.TempDir(),
		"missing":           filepath.Join(t.TempDir(), "missing"),
		"no decisions":      pack(t, version1),
		"no version":        pack(t, entry(replay.DecisionsFile, decision(1, "web", asDecided))),
		"a later version":   pack(t, entry(replay.VersionsFile, `{"bundle":2}`), empty(replay.DecisionsFile)),
		"other files":       pack(t, version1, entry("../../etc/passwd", "x")),
		"a link":            pack(t, link, empty(replay.DecisionsFile)),
		"a file twice":      pack(t, version1, version1, empty(replay.DecisionsFile)),
		"a huge file":       pack(t, version1, huge),
		"a huge line":       pack(t, version1, entry(replay.DecisionsFile, strings.Repeat("x", 1<<20+1))),
		"lines that are no": pack(t, version1, entry(replay.DecisionsFile, "[]\n")),
		"cut off":           cutOff(t, pack(t, version1, entry(replay.DecisionsFile, decision(1, "web", asDecided)))),
	} {
		out, _, err := replayed(path)
		if _, differs := err.(exitCode); err == nil || differs || strings.Contains(out, "decisions") {
			t.Errorf("%s: %q, %v", what, out, err)
		}
	}
}

func gzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if _, err := zip.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func cutOff(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return written(t, text[:len(text)/2])
}

func TestABundleIsReplayed(t *testing.T) {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case server.JournalPath:
			fmt.Fprint(w, `{"seq":1,"uid":"u-web"}`+"\n"+`{"seq":2,"uid":"u-db"}`+"\n")
		case server.DecisionsPath:
			fmt.Fprint(w, decision(1, "web", asDecided)+decision(2, "db", asDecided))
		case server.VersionsPath:
			fmt.Fprint(w, `{"miniKubelet":"v0.1","kernel":"6.1.0"}`)
		case "/configz":
			fmt.Fprint(w, "{}")
		default:
			http.NotFound(w, r)
		}
	}))
	defer agent.Close()
	base, err := url.Parse(agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := &agentClient{base: base, where: "test", http: agent.Client()}
	for uid, want := range map[string]string{"": "2 decisions", "u-web": "1 decisions"} {
		text, err := c.bundle(t.Context(), "")
		if uid != "" {
			text, err = c.bundle(t.Context(), "u-web")
		}
		if err != nil {
			t.Fatal(err)
		}
		if out, errs, err := replayed(written(t, text)); err != nil || !strings.HasPrefix(out, want) || !strings.HasPrefix(errs, "the bundle is of mini-kubelet v0.1 (kernel 6.1.0), and this program is ") {
			t.Errorf("%q: %q, %q, %v", uid, out, errs, err)
		}
	}
}
