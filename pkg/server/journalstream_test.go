package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// sent is one server-sent event.
type sent struct{ kind, id, data string }

// stream opens the journal as server-sent events.
func stream(t *testing.T, client *http.Client, lastEventID string) (next func() sent, end func()) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://local"+JournalPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", lastEventID)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewReader(resp.Body)
	return func() (s sent) {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("after %+v: %v", s, err)
			}
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch name {
			case "event":
				s.kind = value
			case "id":
				s.id = value
			case "data":
				s.data = value
			case "":
				return s
			}
		}
	}, func() { resp.Body.Close() }
}

func events(t *testing.T, s sent) (all []journal.Shown) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.data), &all); err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return all
}

func startJournal(t *testing.T, record *journal.Journal) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Config{Pods: podList{}, Local: &LocalConfig{Path: path, Content: Content{Host: &host{}, Configz: func() any { return nil }, Journal: record}}})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: socketTransport(t, path)}
	testrun.Start(t, s.Run)
	return client
}

// Whoever comes back with the ID of the last message gets exactly what he has not seen in its last form, wherever he was cut off.
func TestTheStreamOfTheJournalResumesWithoutAHole(t *testing.T) {
	record := journal.New(time.Now)
	client := startJournal(t, record)
	var probe journal.Handle
	const most = streamBatch*2 + 10
	spans := []*journal.Span{}
	for i := range most {
		switch i % 3 {
		case 0:
			record.Note(journal.Event{Kind: journal.Wake, Reason: "pleg"})
		case 1:
			spans = append(spans, record.Begin(journal.Event{Kind: journal.CRI, Name: "StartContainer"}))
		default:
			record.Again(&probe, journal.Event{Kind: journal.Probe, Name: "c", Quiet: true})
		}
	}
	known := map[uint64]journal.Shown{}
	take := func(s sent) {
		for _, e := range events(t, s) {
			known[e.Seq] = e
		}
	}
	next, end := stream(t, client, "")
	hello := next()
	if hello.kind != "hello" || !strings.Contains(hello.data, fmt.Sprintf("%q", record.Epoch())) || hello.id != "" {
		t.Fatalf("first comes %+v", hello)
	}
	first := next()
	if n := len(events(t, first)); n != streamBatch || first.id != "" {
		t.Errorf("the first of two messages has %d events and the ID %q", n, first.id)
	}
	take(first)
	end() // before the last message of the look: as if nothing had been sent

	last := ""
	for i := range 3 { // and again and again
		for _, s := range spans[i*20 : i*20+20] {
			s.End(nil)
		}
		record.Again(&probe, journal.Event{Kind: journal.Probe, Name: "c", Quiet: true})
		next, end = stream(t, client, last)
		next()
		last = ""
		for last == "" {
			s := next()
			take(s)
			last = s.id
		}
		end()
	}
	if i := strings.TrimPrefix(last, record.Epoch()+"-"); i == last {
		t.Errorf("the ID %q does not name the epoch %q", last, record.Epoch())
	}
	all, _ := record.Since(0)
	for _, e := range all {
		if want := record.Show(e); known[e.Seq].Version != want.Version || known[e.Seq].TookNS != want.TookNS {
			t.Errorf("event %d: %+v, want %+v", e.Seq, known[e.Seq], want)
		}
	}
	if len(known) != len(all) {
		t.Errorf("%d events, want %d", len(known), len(all))
	}

	for _, other := range []string{"elsewhere-" + strings.Split(last, "-")[1], "x", "-", record.Epoch() + "-x"} {
		next, end := stream(t, client, other)
		next()
		if e := events(t, next()); len(e) == 0 || e[0].Seq != 1 {
			t.Errorf("last ID %q: not from the beginning but %+v", other, e)
		}
		end()
	}
	next, _ = stream(t, client, last)
	next()
	record.Note(journal.Event{Kind: journal.Wake})
	if e := events(t, next()); len(e) != 1 || e[0].Kind != "wake" {
		t.Errorf("what comes after all was seen: %+v", e)
	}
}

func TestAStreamOfAFollowerThatReadsNothingHoldsNobodyUp(t *testing.T) {
	record := journal.New(time.Now)
	client := startJournal(t, record)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://local"+JournalPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 3 * journal.Capacity {
		record.Note(journal.Event{Kind: journal.Plan, Detail: journal.Text(strings.Repeat("x", 1000))})
	}
	next, _ := stream(t, client, "")
	next()
	if e := events(t, next()); len(e) == 0 {
		t.Error("the other follower gets nothing")
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 10)
}
