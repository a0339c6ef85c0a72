package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// JournalPath is where the agent's journal is: one journal.Shown a line, in the order of their numbers. ?from=VERSION
// leaves out what has not changed since that version, ?watch=true goes on with what comes. Who accepts text/event-stream gets
// it as server-sent events (journalstream.go).
const JournalPath = "/mini-kubelet/journal"

// Journal is the record of what happens. It is called concurrently.
type Journal interface {
	// Since returns what was noted or changed after a version, in the order of the numbers, and the version of the newest change.
	Since(version uint64) (events []journal.Event, newest uint64)
	// Wait returns when something has changed after a version, or with ctx's error.
	Wait(ctx context.Context, version uint64) error
	// Epoch tells this journal from those of the agent's former lives.
	Epoch() string
	// Show puts an event into words.
	Show(journal.Event) journal.Shown
	// Decisions returns the decisions that are remembered, the oldest first, and ShowDecision puts one into JSON.
	Decisions() []journal.Decided
	ShowDecision(d journal.Decided, hide func(string) string) (journal.ShownDecision, error)
}

func (a *api) journal(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Accept") == eventStream {
		a.long.handler(a.streamJournal)(w, r)
		return
	}
	version, err := fromVersion(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if r.URL.Query().Get("watch") == "true" {
		a.long.handler(func(w http.ResponseWriter, r *http.Request) { a.watchJournal(w, r, version) })(w, r)
		return
	}
	_, _ = a.sendJournal(w, version)
}

// fromVersion returns the version that a reader has seen, 0 if he says none.
func fromVersion(r *http.Request) (uint64, error) {
	from := r.URL.Query().Get("from")
	if from == "" {
		return 0, nil
	}
	return strconv.ParseUint(from, 10, 64)
}

// sendJournal sends what is newer than a version and returns the version that was sent. The error is the client's connection's.
func (a *api) sendJournal(w http.ResponseWriter, version uint64) (uint64, error) {
	events, version := a.Journal.Since(version)
	out := json.NewEncoder(w)
	for _, e := range events {
		if err := out.Encode(a.Journal.Show(e)); err != nil {
			return version, err
		}
	}
	return version, nil
}

// watchJournal sends what there is and then what comes, until the client goes. For one that reads slowly what has
// changed several times meanwhile is sent once, and what was forgotten meanwhile is not sent.
func (a *api) watchJournal(w http.ResponseWriter, r *http.Request, version uint64) {
	for {
		var err error
		if version, err = a.sendJournal(w, version); err != nil {
			return
		}
		if http.NewResponseController(w).Flush() != nil || a.Journal.Wait(r.Context(), version) != nil {
			return
		}
	}
}
