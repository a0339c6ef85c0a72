package server

import (
	"bufio"
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestTheJournalIsReadAndWatched(t *testing.T) {
	record := journal.New(time.Now)
	record.Know(journal.Who{UID: "u", Namespace: "shop", Name: "web"})
	record.Note(journal.Event{Kind: journal.Wake, Reason: "pleg"})
	record.Note(journal.Event{Kind: journal.Plan, Pod: "u", Cause: 1, Detail: journal.Text("start c")})
	path := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Config{Pods: podList{}, Local: &LocalConfig{Path: path, Content: Content{Host: &host{}, Configz: func() any { return nil }, Journal: record}}})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: socketTransport(t, path)}
	testrun.Start(t, s.Run)
	if code, body := ask(t, client, "GET", "http://local"+JournalPath+"?from=x"); code != 400 {
		t.Errorf("from=x: %d %q", code, body)
	}
	resp, err := client.Get("http://local" + JournalPath + "?watch=true&from=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(bufio.NewReader(resp.Body))
	next := func() (e journal.Shown) {
		if err := lines.Decode(&e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := next(); e.Seq != 2 || e.Kind != "plan" || e.Pod != "web" || e.Namespace != "shop" || e.Detail != "start c" || e.Cause != 1 {
		t.Errorf("%+v", e)
	}
	record.Note(journal.Event{Kind: journal.Step, Pod: "u"})
	if e := next(); e.Seq != 3 {
		t.Errorf("%+v", e)
	}
}
