package credentials

import (
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// afterExpired is how long the answer to a watch that is too old is held back, plus up to as
// much again at random.
const afterExpired = 500 * time.Millisecond

// gentle holds back the answer that a watch is too old. client-go asks again at once, without
// its rate limit, however often it hears that: with an API server that lags behind, a hundred
// times a second and kind of object.
type gentle struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (g gentle) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusGone || r.URL.Query().Get("watch") == "" {
		return resp, err
	}
	select {
	case <-time.After(wait.Jitter(afterExpired, 1)):
	case <-r.Context().Done():
	}
	return resp, nil
}

// WrappedRoundTripper lets client-go find the transport below.
func (g gentle) WrappedRoundTripper() http.RoundTripper { return g.next }
