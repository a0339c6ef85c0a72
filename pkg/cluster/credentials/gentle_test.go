package credentials

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

type answers int

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: int(a)}, nil
}

// Whatever the answer was: also 200 begins a watch whose first event says that it is too old.
func TestWatchesOfTheSameBeginApart(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusGone} {
		synctest.Test(t, func(t *testing.T) {
			g := &gentle{next: answers(status)}
			ask := func(query string) time.Duration {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api/api/v1/pods"+query, nil)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				resp, err := g.RoundTrip(r)
				if err != nil || resp.StatusCode != status {
					t.Errorf("%s: %v, %v", query, resp, err)
				}
				return time.Since(began)
			}
			const mine = "?watch=true&fieldSelector=spec.nodeName%3Dn"
			if took := ask(mine); took != 0 {
				t.Errorf("the first waits %v", took)
			}
			for range 3 {
				if took := ask(mine + "&resourceVersion=1"); took < watchSpacing || took > 2*watchSpacing {
					t.Errorf("a watch of the same waits %v", took)
				}
			}
			for _, other := range []string{"?watch=true&fieldSelector=spec.nodeName%3Dm", "", "?fieldSelector=spec.nodeName%3Dn"} {
				if took := ask(other); took != 0 {
					t.Errorf("%s waits %v", other, took)
				}
			}
			time.Sleep(time.Minute)
			if took := ask(mine); took != 0 {
				t.Errorf("a watch much later waits %v", took)
			}
			if len(g.begun) != 1 {
				t.Errorf("kept %v", g.begun)
			}
		})
	}
}

func TestAWatchThatIsGivenUpWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gentle{next: answers(http.StatusOK)}
		g.reserve("/x?&", time.Now())
		r, err := http.NewRequest(http.MethodGet, "https://api/x?watch=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := g.RoundTrip(r.WithContext(ctx)); err == nil || time.Since(began) != time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
