package harness

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Marks are what values begin with that nobody may learn from the agent: data of Secrets, literal values of environments,
// passwords of registries. Tests take such values, so that one can look for them in all that an agent writes.
var Marks = []string{"hunter2", "open sesame"}

// encodings are how a mark may look somewhere within a text.
func encodings(mark string) []string {
	all := []string{mark, hex.EncodeToString([]byte(mark)), url.QueryEscape(mark), url.PathEscape(mark)}
	// In base64 three bytes are four characters: where the mark begins decides which they are. At its ends they are others' too.
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), mark...))
		from, to := (shift*8+5)/6, (shift+len(mark))*8/6
		all = append(all, text[from:to])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Leaks returns where secrets are in a text, with what is around them.
func Leaks(text []byte) (found []string) {
	for _, mark := range Marks {
		for _, as := range encodings(mark) {
			for rest := text; ; {
				at := bytes.Index(rest, []byte(as))
				if at < 0 || len(found) == 5 {
					break
				}
				around := rest[max(0, at-200):min(len(rest), at+len(as)+200)]
				found = append(found, fmt.Sprintf("%q as %q in %q", mark, as, around))
				rest = rest[at+len(as):]
			}
		}
	}
	return found
}

// Journal returns what the running agent has recorded since a version, one event a line, and the version of the newest.
func (a *Agent) Journal(ctx context.Context, since uint64) (text []byte, newest uint64, err error) {
	socket := filepath.Join(a.Dir, "root", "mini-kubelet", "api", "agent.sock")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/mini-kubelet/journal?from="+strconv.FormatUint(since, 10), nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("GET the journal: %s: %.200s", resp.Status, text)
	}
	newest = since
	for line := range bytes.Lines(text) {
		var e struct{ Version uint64 }
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, 0, fmt.Errorf("read the journal: %w: %.200q", err, line)
		}
		newest = max(newest, e.Version)
	}
	return text, newest, nil
}

// CheckJournal fails the test if the running agent has recorded a secret since the last check. It may be called concurrently.
func (a *Agent) CheckJournal(t T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a.checked.Lock()
	defer a.checked.Unlock()
	text, newest, err := a.Journal(ctx, a.checkedTo)
	if err != nil {
		t.Errorf("look for secrets: %v", err)
		return
	}
	a.checkedTo = newest
	for _, leak := range Leaks(text) {
		t.Errorf("the journal of agent %s has the secret %s", a.Node, leak)
	}
}

// checkAll fails the test if the agent has written down a secret: in its journal, its file of events or its log. One that does
// not run or answer has no journal.
func (a *Agent) checkAll() {
	a.t.Helper()
	texts := map[string][]byte{}
	var err error
	if texts["log"], err = os.ReadFile(a.LogPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.t.Errorf("look for secrets: %v", err)
	}
	events := filepath.Join(a.Dir, "root", "mini-kubelet", "events.jsonl")
	if fi, err := os.Lstat(events); err == nil && fi.Mode().IsRegular() { // a test may have put anything there
		if texts["file of events"], err = os.ReadFile(events); err != nil {
			a.t.Errorf("look for secrets: %v", err)
		}
	}
	if a.cmd != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if texts["journal"], _, err = a.Journal(ctx, 0); err != nil {
			a.t.Logf("look for secrets: %v", err)
		}
	}
	for name, text := range texts {
		for _, leak := range Leaks(text) {
			a.t.Errorf("the %s of agent %s has the secret %s", name, a.Node, leak)
		}
	}
}
