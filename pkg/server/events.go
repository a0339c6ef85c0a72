package server

import (
	"context"
	"encoding/json"
	"net/http"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// EventsPath is where the node's last events are: a v1.EventList or, with ?watch=true, one
// watch event a line, as the API server has them. The kubelet has nothing of the kind, and
// everything that is ours alone is below /mini-kubelet/.
const EventsPath = "/mini-kubelet/events"

// Events are the last events of the node. It is called concurrently.
type Events interface {
	// Since returns what is newer than a version, the oldest first, and the newest version.
	Since(version int64) (events []v1.Event, newest int64)
	// Wait returns when something is newer than a version, or with ctx's error.
	Wait(ctx context.Context, version int64) error
}

func (a *api) events(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("watch") == "true" {
		a.long.handler(a.watchEvents)(w, r)
		return
	}
	events, _ := a.Events.Since(0)
	if events == nil {
		events = []v1.Event{}
	}
	writeJSON(w, r, &v1.EventList{TypeMeta: metav1.TypeMeta{Kind: "EventList", APIVersion: "v1"}, Items: events})
}

// watchEvents sends all that there is and then what comes, until the client goes. For one that
// reads slowly what has come up several times meanwhile is sent once.
func (a *api) watchEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	for version := int64(0); ; {
		var events []v1.Event
		events, version = a.Events.Since(version)
		for i := range events {
			change := struct {
				Type   watch.EventType `json:"type"`
				Object *v1.Event       `json:"object"`
			}{watch.Added, &events[i]}
			if events[i].Count > 1 {
				change.Type = watch.Modified
			}
			if out.Encode(change) != nil {
				return // the client's connection
			}
		}
		if http.NewResponseController(w).Flush() != nil || a.Events.Wait(r.Context(), version) != nil {
			return
		}
	}
}
