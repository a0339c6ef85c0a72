package docker

import (
	"net/http"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/test/dockertest"
)

func TestRoutes(t *testing.T) {
	for path, want := range map[string][2]string{
		"/_ping":                        {"GET /_ping", ""},
		"/v1.41/info":                   {"GET /info", ""},
		"/v1.41/events":                 {"GET /events", ""},
		"/v1.41/containers/json":        {"GET /containers/json", ""},
		"/v1.41/containers/create":      {"GET /containers/create", ""},
		"/v1.41/containers/abc":         {"GET /containers/{id}", "abc"},
		"/v1.41/containers/abc/json":    {"GET /containers/{id}/json", "abc"},
		"/v1.41/exec/abc/start":         {"GET /exec/{id}/start", "abc"},
		"/v1.41/images/a/b/c:1/json":    {"GET /images/{id}/json", "a/b/c:1"},
		"/v1.41/images/a/b":             {"GET /images/{id}", "a/b"},
		"/containers/abc/start":         {"GET /containers/{id}/start", "abc"},
		"":                              {"GET /", ""},
		"/v1.41/":                       {"GET /", ""},
		"/v1.41/networks/bridge":        {"GET /networks/{id}", "bridge"},
		"/v1.41/containers//json":       {"GET /containers/{id}/json", ""},
		"/v1.41/images/sha256:abc/json": {"GET /images/{id}/json", "sha256:abc"},
	} {
		if route, id := route("GET", path); route != want[0] || id != want[1] {
			t.Errorf("%s: %q, %q, want %q", path, route, id, want)
		}
	}
}

// told is an Observer.
type told struct{ calls []Call }

func (o *told) Called(c Call)        { o.calls = append(o.calls, c) }
func (o *told) Begun(c Call) Ongoing { o.Called(c); return unobserved{} }

func TestCallsAreToldWithTheirCause(t *testing.T) {
	by := &told{}
	e, err := Connect(t.Context(), dockertest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, id := route(r.Method, r.URL.Path); id == "gone" {
			http.Error(w, `{"message":"no"}`, http.StatusNotFound)
			return
		}
		w.Header().Set("API-Version", "1.41")
		_, _ = w.Write([]byte("{}"))
	})), by)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	by.calls = nil
	sent, _ := metadata.FromOutgoingContext(crimeta.Because(t.Context(), 42))
	ctx := metadata.NewIncomingContext(t.Context(), sent)
	if _, err := e.ContainerInspect(ctx, "gone"); err == nil {
		t.Error("what is not there was inspected")
	}
	if _, err := e.get(ctx, "/containers/json", ""); err != nil {
		t.Error(err)
	}
	told := by.calls
	if len(told) != 2 || told[0].Cause != 42 || told[0].Route != "GET /containers/{id}/json" || told[0].ID != "gone" || told[0].Code != 404 || told[0].Took <= 0 ||
		told[1].Route != "GET /containers/json" || told[1].Code != 200 || told[1].Cause != 42 {
		t.Errorf("%+v", told)
	}
	by.calls = nil
	whole, _ := Begin(ctx, by, "POST /images/create", "i")
	if _, err := e.get(whole, "/containers/json", ""); err != nil {
		t.Error(err)
	}
	if len(by.calls) != 1 || by.calls[0] != (Call{Cause: 42, Route: "POST /images/create", ID: "i"}) {
		t.Errorf("of a call that is told as a whole: %+v", by.calls)
	}
	if same, call := Begin(ctx, nil, "", ""); same != ctx || call == nil {
		t.Error("without an observer")
	}
}
