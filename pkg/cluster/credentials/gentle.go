package credentials

import (
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// watchSpacing is how far apart two watches of the same begin, plus up to as much again at random.
const watchSpacing = 500 * time.Millisecond

// gentle spaces out the beginnings of a watch. When a watch is too old (410, or an event ERROR
// that says so), client-go asks again at once, without its rate limit, however often it hears
// that: with an API server that lags behind, a hundred times a second and kind of object.
// Safe for concurrent use.
type gentle struct {
	next http.RoundTripper

	mu    sync.Mutex
	begun map[string]time.Time // when the last watch of what a request asks for begins, of those that matter still
}

// RoundTrip implements http.RoundTripper.
func (g *gentle) RoundTrip(r *http.Request) (*http.Response, error) {
	if query := r.URL.Query(); query.Get("watch") != "" {
		what := r.URL.Path + "?" + query.Get("fieldSelector") + "&" + query.Get("labelSelector")
		select {
		case <-time.After(g.reserve(what, time.Now())):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return g.next.RoundTrip(r)
}

// reserve returns how long a watch has to wait.
func (g *gentle) reserve(what string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	for other, at := range g.begun {
		if now.Sub(at) > 2*watchSpacing {
			delete(g.begun, other)
		}
	}
	at := now
	if last, ok := g.begun[what]; ok {
		if next := last.Add(wait.Jitter(watchSpacing, 1)); next.After(now) {
			at = next
		}
	}
	if g.begun == nil {
		g.begun = map[string]time.Time{}
	}
	g.begun[what] = at
	return at.Sub(now)
}

// WrappedRoundTripper lets client-go find the transport below.
func (g *gentle) WrappedRoundTripper() http.RoundTripper { return g.next }
