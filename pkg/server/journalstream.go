package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// eventStream is the type of server-sent events. As such the journal is:
//
//	event: hello       once: {"epoch": of the journal, "now": the node's clock}
//	data: [...]        some journal.Shown. The last message of a look has an ID, EPOCH-VERSION: who comes back with it as
//	                   Last-Event-ID goes on after it, or from the beginning if the agent was restarted meanwhile
//	event: now         the node's clock, when nothing else comes
//
// Messages before the last of a look have no ID, since what is sent in the order of the events' numbers is not in that of versions.
const eventStream = "text/event-stream"

const (
	// streamBatch is how many events a message has at most.
	streamBatch = 256
	// streamPause gathers events that come in quick succession.
	streamPause = 40 * time.Millisecond
	// streamBeat is after how long without news something is sent all the same, so that both sides notice when the other is gone.
	streamBeat = 10 * time.Second
)

// streamJournal sends what there is and then what comes, until the client goes.
func (a *api) streamJournal(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", eventStream)
	epoch := a.Journal.Epoch()
	version := versionIn(epoch, r.Header.Get("Last-Event-ID"))
	flush := http.NewResponseController(w).Flush
	if writeMessage(w, "event: hello\n", map[string]any{"epoch": epoch, "now": time.Now()}) != nil {
		return
	}
	for {
		var err error
		if version, err = a.sendMessages(w, epoch, version); err != nil || flush() != nil {
			return
		}
		if err := a.nextNews(r.Context(), version); errors.Is(err, errNoNews) {
			if writeMessage(w, "event: now\n", time.Now()) != nil {
				return
			}
		} else if err != nil {
			return
		}
	}
}

// versionIn returns what a client has seen of the journal of that epoch: 0 if his last event is of another, or is none.
func versionIn(epoch, lastEventID string) uint64 {
	of, version, _ := strings.Cut(lastEventID, "-")
	n, err := strconv.ParseUint(version, 10, 64)
	if of != epoch || err != nil {
		return 0
	}
	return n
}

// sendMessages sends what is newer than a version and returns the version that was sent.
func (a *api) sendMessages(w http.ResponseWriter, epoch string, version uint64) (uint64, error) {
	events, newest := a.Journal.Since(version)
	for len(events) > 0 {
		batch := events[:min(len(events), streamBatch)]
		events = events[len(batch):]
		id := ""
		if len(events) == 0 {
			id = fmt.Sprintf("id: %s-%d\n", epoch, newest)
		}
		shown := make([]journal.Shown, 0, len(batch))
		for _, e := range batch {
			shown = append(shown, a.Journal.Show(e))
		}
		if err := writeMessage(w, id, shown); err != nil {
			return version, err
		}
	}
	return newest, nil
}

// writeMessage sends one message; the error is the client's connection's.
func writeMessage(w http.ResponseWriter, fields string, data any) error {
	text, err := json.Marshal(data) // in one line
	if err != nil {
		return err
	}
	_, err = w.Write(bytes.Join([][]byte{[]byte(fields + "data: "), text, []byte("\n\n")}, nil))
	return err
}

var errNoNews = errors.New("nothing has happened for a while")

// nextNews returns a moment after something has changed, so that what happens at once is sent at once.
func (a *api) nextNews(ctx context.Context, version uint64) error {
	beat, cancel := context.WithTimeoutCause(ctx, streamBeat, errNoNews)
	defer cancel()
	if err := a.Journal.Wait(beat, version); err != nil {
		return context.Cause(beat)
	}
	pause := time.NewTimer(streamPause)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
