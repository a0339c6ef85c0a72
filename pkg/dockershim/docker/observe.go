package docker

import (
	"net/http"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
)

// Call is one question to Docker, without what was asked or answered.
type Call struct {
	Cause uint64 // what the caller of CRI said to be the reason, by crimeta.Because; 0: nothing
	Route string // such as "POST /containers/{id}/start"
	ID    string // the container, image or other object that it is about; "": none
	Took  time.Duration
	Code  int   // of the answer's HTTP status; 0: there was none
	Err   error // why there was none
}

// observed tells of each call, once its answer has begun. Streams that take a connection over (exec,
// attach) do not go through here.
type observed struct {
	http.RoundTripper
	tell func(Call)
}

// RoundTrip implements http.RoundTripper.
func (o observed) RoundTrip(req *http.Request) (*http.Response, error) {
	begun := time.Now()
	resp, err := o.RoundTripper.RoundTrip(req)
	call := Call{Cause: crimeta.CauseOf(req.Context()), Took: time.Since(begun), Err: err}
	call.Route, call.ID = route(req.Method, req.URL.Path)
	if resp != nil {
		call.Code = resp.StatusCode
	}
	o.tell(call)
	return resp, err
}

// observe returns the transport, or one that tells of its calls.
func observe(t http.RoundTripper, tell func(Call)) http.RoundTripper {
	if tell == nil {
		return t
	}
	return observed{t, tell}
}

// route splits the path of a request into the route, of which there are few, and the object. A path is
// /v1.41/KIND[/ID[/WHAT]], and the name of an image has slashes.
func route(method, path string) (route, id string) {
	rest := strings.TrimPrefix(path, "/")
	if version, after, found := strings.Cut(rest, "/"); found && strings.HasPrefix(version, "v1.") {
		rest = after
	}
	kind, rest, _ := strings.Cut(rest, "/")
	route = method + " /" + kind
	switch rest {
	case "":
		return route, ""
	case "json", "create", "prune", "df", "load", "get", "search", "connect": // of the kind itself
		return route + "/" + rest, ""
	}
	id = rest
	what := ""
	if cut := strings.LastIndexByte(rest, '/'); cut >= 0 && (kind != "images" || isAction(rest[cut+1:])) {
		id, what = rest[:cut], rest[cut:]
	}
	return route + "/{id}" + what, id
}

// isAction reports whether the last word of an image's path is not part of its name.
func isAction(word string) bool {
	switch word {
	case "json", "history", "push", "tag", "get":
		return true
	}
	return false
}
