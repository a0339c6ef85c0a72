package credentials

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

type answers int

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: int(a)}, nil
}

func TestTheAnswerThatAWatchIsTooOldIsHeldBack(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		query  string
		waits  bool
	}{
		"a watch that is too old": {http.StatusGone, "?watch=true", true},
		"a watch that begins":     {http.StatusOK, "?watch=true", false},
		"a list":                  {http.StatusGone, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api/api/v1/pods"+tt.query, nil)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				resp, err := gentle{answers(tt.status)}.RoundTrip(r)
				if took := time.Since(began); err != nil || resp.StatusCode != tt.status || tt.waits != (took >= afterExpired) || took > 2*afterExpired {
					t.Errorf("%v, %v after %v", resp, err, took)
				}
			})
		})
	}
}
