package server

import (
	"context"
	"net/http"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Usage tells what the node and its pods use. It is called concurrently.
type Usage interface {
	Summary(ctx context.Context, onlyCPUAndMemory bool) (*stats.Summary, error)
}

// maxForm bounds the form of a POST, which has one field.
const maxForm = 16 << 10

// addSummary serves /stats/summary.
func addSummary(mux *http.ServeMux, u Usage) {
	h := func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			say(w, http.StatusBadRequest, err.Error())
			return
		}
		only := r.Form["only_cpu_and_memory"]
		s, err := u.Summary(r.Context(), len(only) == 1 && only[0] == "true")
		if err != nil {
			fail(w, r, err, http.StatusInternalServerError)
			return
		}
		writeJSON(w, r, s)
	}
	mux.HandleFunc("GET /stats/summary", h)
	mux.HandleFunc("POST /stats/summary", h)
}
