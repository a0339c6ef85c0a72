package server

import (
	"context"
	"net/http"

	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
)

// WhyPath is where it is said why pods do not run as wanted: a why.Report. ?pod=NAME and ?namespace=NAME ask about these alone; 404
// if nothing of that name is known. It quotes logs and names keys of Secrets, and is only served at the local socket.
const WhyPath = "/mini-kubelet/why"

// Why says why pods do not run as wanted. It is called concurrently.
type Why interface {
	// Why is asked about a namespace and name; "" is any. The error has the gRPC code NotFound for an unknown name.
	Why(ctx context.Context, namespace, name string) (why.Report, error)
}

func (a *api) why(w http.ResponseWriter, r *http.Request) {
	report, err := a.Why.Why(r.Context(), r.URL.Query().Get("namespace"), r.URL.Query().Get("pod"))
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	writeJSON(w, r, report)
}
