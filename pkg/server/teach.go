package server

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
)

// TeachPath is where the gates of teaching mode are: GET answers with a gate.State, POST with a TeachRequest does
// something first.
const TeachPath = "/mini-kubelet/teach"

// TeachRequest is what a person wants of the gates.
type TeachRequest struct {
	Do     string    `json:"do"`               // pause, run, step, next or slow
	Pod    types.UID `json:"pod,omitempty"`    // of next: its UID
	Factor int       `json:"factor,omitempty"` // of slow
}

// Gates are those of teaching mode. They are called concurrently.
type Gates interface {
	Do(what string, pod types.UID, factor int) error
	Settle(ctx context.Context, atMost time.Duration)
	State() gate.State
}

// settleFor is how long an answer waits for what a step leads to.
const settleFor = time.Second

// maxTeachRequest is how many bytes a request may have.
const maxTeachRequest = 4 << 10

func (a *api) teach(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		var do TeachRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxTeachRequest)).Decode(&do); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := a.Gates.Do(do.Do, do.Pod, do.Factor); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a.Gates.Settle(r.Context(), settleFor)
	}
	writeJSON(w, r, a.Gates.State())
}
