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

	"github.com/mini-kubelet/mini-kubelet/pkg/base/ownsocket"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
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

// local returns the running agent's answer at its socket.
func (a *Agent) local(ctx context.Context, path string, query url.Values) ([]byte, error) {
	socket := config.LocalSocket(filepath.Join(a.Dir, "root"))
	client := http.Client{Timeout: Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return ownsocket.Dial(ctx, socket) },
	}}
	u := url.URL{Scheme: "http", Host: "localhost", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("GET %s: %w", u.RequestURI(), err)
	case resp.StatusCode != http.StatusOK:
		return nil, &refusedError{u.RequestURI(), fmt.Sprintf("%s: %.200s", resp.Status, bytes.TrimSpace(text))}
	case len(text) > maxAnswer:
		return nil, &refusedError{u.RequestURI(), fmt.Sprintf("more than %d bytes", maxAnswer)}
	}
	return text, nil
}

// refusedError is an answer that an agent gives, but not the one that was asked for.
type refusedError struct{ uri, why string }

func (e *refusedError) Error() string { return "GET " + e.uri + ": " + e.why }

// maxAnswer is how many bytes an answer of the agent may have.
const maxAnswer = 64 << 20

// Journal returns what the running agent has recorded since a version, one event a line, and the version of the newest.
func (a *Agent) Journal(ctx context.Context, since uint64) (text []byte, newest uint64, err error) {
	if text, err = a.local(ctx, server.JournalPath, url.Values{"from": {strconv.FormatUint(since, 10)}}); err != nil {
		return nil, 0, err
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

// checkAll fails the test if the agent has written down a secret: in its journal, its decisions, its file of events or its log,
// or if a decision comes out differently when it is made again. One that does not run or answer has no journal and no decisions.
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
	for name, text := range texts {
		a.checkText(name, text)
	}
	a.checkRunning()
}

// checkRunning is what checkAll does to a running agent. It is called before each end of an agent that is not a crash.
func (a *Agent) checkRunning() {
	a.t.Helper()
	if a.cmd == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	journal, _, err := a.Journal(ctx, 0)
	if err != nil {
		a.t.Logf("look for secrets: %v", err)
	}
	a.checkText("journal", journal)
	a.checkBundle(journal)
}

func (a *Agent) checkText(name string, text []byte) {
	a.t.Helper()
	for _, leak := range Leaks(text) {
		a.t.Errorf("the %s of agent %s has the secret %s", name, a.Node, leak)
	}
}
