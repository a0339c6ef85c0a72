package server

import (
	"encoding/json"
	"net/http"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// DecisionsPath is where the agent's last decisions are, with what they were made from: one journal.ShownDecision a line, the
// oldest first. What may be a secret is hidden.
const DecisionsPath = "/mini-kubelet/decisions"

// VersionsPath is where the agent says what it is and runs on.
const VersionsPath = "/mini-kubelet/versions"

func (a *api) decisions(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, hide := json.NewEncoder(w), journal.NewHider()
	for _, d := range a.Journal.Decisions() {
		shown, err := a.Journal.ShowDecision(d, hide)
		if err != nil {
			continue // what cannot be written cannot be replayed
		}
		if out.Encode(shown) != nil {
			return // the client's connection
		}
	}
}
