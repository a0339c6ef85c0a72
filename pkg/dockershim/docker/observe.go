package docker

import (
	"context"
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

// Observer hears of calls to Docker. Its methods must not block, and may be called concurrently.
type Observer interface {
	// Called hears of a call once its answer has begun.
	Called(Call)
	// Begun hears of a call when it begins, if it goes on for as long as something else takes: a pull, a stream. It has
	// no duration, code or error yet.
	Begun(Call) Ongoing
}

// Ongoing hears of one call that goes on. Progress may be called any number of times before Ended, which is called once.
type Ongoing interface {
	Progress(Progress)
	Ended(error)
}

// toldWhole marks the context of a call that Begin has told of.
type toldWhole struct{}

// Begin tells the observer, unless it is nil, that a call begins that goes on after its answer has begun. Of what is
// asked with the context that it returns nothing else is told. The caller calls Ended.
func Begin(ctx context.Context, o Observer, route, id string) (context.Context, Ongoing) {
	if o == nil {
		return ctx, unobserved{}
	}
	return context.WithValue(ctx, toldWhole{}, true), o.Begun(Call{Cause: crimeta.CauseOf(ctx), Route: route, ID: id})
}

// unobserved is a call that nobody hears of.
type unobserved struct{}

func (unobserved) Progress(Progress) {}
func (unobserved) Ended(error)       {}

// observed tells of each call but those that Begin has told of. Connections that are taken over (exec, attach) do
// not go through here.
type observed struct {
	http.RoundTripper
	by Observer
}

// RoundTrip implements http.RoundTripper.
func (o observed) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Context().Value(toldWhole{}) != nil {
		return o.RoundTripper.RoundTrip(req)
	}
	begun := time.Now()
	resp, err := o.RoundTripper.RoundTrip(req)
	call := Call{Cause: crimeta.CauseOf(req.Context()), Took: time.Since(begun), Err: err}
	call.Route, call.ID = route(req.Method, req.URL.Path)
	if resp != nil {
		call.Code = resp.StatusCode
	}
	o.by.Called(call)
	return resp, err
}

// observe returns the transport, or one that tells of its calls.
func observe(t http.RoundTripper, by Observer) http.RoundTripper {
	if by == nil {
		return t
	}
	return observed{t, by}
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
