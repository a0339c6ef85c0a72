package ui

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

// Bounds of what is asked of the gates, and of what is shown of them.
const (
	maxTeachRequest = 4 << 10 // bytes
	maxWaiting      = 100
)

// gates is what the page gets of teaching mode. Its zero value says that the agent is not in it.
type gates struct {
	Teaching bool        `json:"teaching"`
	Mode     gate.Mode   `json:"mode,omitempty"`
	Factor   int         `json:"factor,omitempty"`
	Waiting  []gate.Step `json:"waiting,omitempty"` // the one that has waited longest first
	More     int         `json:"more,omitempty"`    // that wait besides
	Failed   string      `json:"failed,omitempty"`  // why there is no answer, or nothing was done
}

func showGates(s *gate.State) gates {
	if s == nil {
		return gates{}
	}
	g := gates{Teaching: true, Mode: s.Mode, Factor: s.Factor, More: max(0, len(s.Waiting)-maxWaiting)}
	for _, w := range s.Waiting[:len(s.Waiting)-g.More] {
		w.What = cut(w.What)
		g.Waiting = append(g.Waiting, w)
	}
	return g
}

// fromThePage passes only requests that a browser says come from this page: what changes something must say so, whereas a request
// that only reads may come from a program with the token.
func (s *Server) fromThePage(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if origins := r.Header.Values("Origin"); len(origins) != 1 || origins[0] != pageOrigin(r) {
			turnAway(w, http.StatusForbidden, "The request does not say that it comes from this page.")
			return
		}
		next(w, r)
	}
}

// gates answers with what the gates of teaching mode are at.
func (s *Server) gates(w http.ResponseWriter, r *http.Request) { s.answerGates(w, r, nil) }

// teach does something with them before.
func (s *Server) teach(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		turnAway(w, http.StatusUnsupportedMediaType, "The request is not application/json.")
		return
	}
	do, err := decodeTeach(http.MaxBytesReader(w, r.Body, maxTeachRequest))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		turnAway(w, http.StatusRequestEntityTooLarge, "The request is too large.")
		return
	}
	if err != nil {
		turnAway(w, http.StatusBadRequest, "The request is not one of teaching mode.")
		return
	}
	s.answerGates(w, r, do)
}

// decodeTeach reads one request and nothing besides.
func decodeTeach(body io.Reader) (*server.TeachRequest, error) {
	in := json.NewDecoder(body)
	in.DisallowUnknownFields()
	var do *server.TeachRequest
	if err := in.Decode(&do); err != nil {
		return nil, err
	}
	if do == nil {
		return nil, errors.New("null")
	}
	if _, err := in.Token(); err != io.EOF {
		return nil, errors.Join(errors.New("more than one value"), err)
	}
	return do, nil
}

func (s *Server) answerGates(w http.ResponseWriter, r *http.Request, do *server.TeachRequest) {
	state, err := s.agent.Teach(r.Context(), do)
	g := showGates(state)
	if err != nil {
		g = gates{Failed: cut(err.Error())}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(g) // an error is the browser's connection's
}
