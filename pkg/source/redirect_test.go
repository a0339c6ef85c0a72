package source

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

// The headers of the manifest URL often hold a password.
func TestHeadersOfTheURLGoNowhereElse(t *testing.T) {
	var mu sync.Mutex
	got := map[string]string{} // by scheme and path
	serve := func(scheme string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			got[scheme+r.URL.Path] = r.Header.Get("X-Password")
			mu.Unlock()
			if to := r.URL.Query().Get("to"); to != "" {
				http.Redirect(w, r, to, http.StatusFound)
				return
			}
			_, _ = w.Write([]byte(podManifest("p")))
		}
	}
	plain := httptest.NewServer(serve("http"))
	defer plain.Close()
	secure := httptest.NewTLSServer(serve("https"))
	defer secure.Close()
	host := strings.TrimPrefix(secure.URL, "https://")
	// By this transport the host of the secure server has a plain one at the same address.
	transport := secure.Client().Transport.(*http.Transport).Clone()
	both := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme == "http" && r.URL.Host == host {
			r = r.Clone(r.Context())
			r.URL.Host = strings.TrimPrefix(plain.URL, "http://")
		}
		return transport.RoundTrip(r)
	})
	for name, tt := range map[string]struct {
		url  string
		want map[string]string
	}{
		"same place":              {secure.URL + "/a?to=/b", map[string]string{"https/a": "hunter2", "https/b": "hunter2"}},
		"same host without TLS":   {secure.URL + "/a?to=http://" + host + "/b", map[string]string{"https/a": "hunter2", "http/b": ""}},
		"same host, to TLS":       {"http://" + host + "/a?to=" + secure.URL + "/b", map[string]string{"http/a": "hunter2", "https/b": "hunter2"}},
		"another host":            {plain.URL + "/a?to=" + secure.URL + "/b", map[string]string{"http/a": "hunter2", "https/b": ""}},
		"away from TLS, and back": {secure.URL + "/a?to=http://" + host + "/b%3Fto=" + secure.URL + "/c", map[string]string{"https/a": "hunter2", "http/b": "", "https/c": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			clear(got)
			s, err := NewHTTP(HTTPConfig{URL: tt.url, NodeName: node, Header: http.Header{"x-password": {"hunter2"}}, Client: both, Report: func(manifest.Problem) {}})
			if err != nil {
				t.Fatal(err)
			}
			if snapshot := s.look(t.Context()); snapshot == nil || len(snapshot.Pods) != 1 {
				t.Fatalf("snapshot %+v, problems %v", snapshot, s.Problems())
			}
			mu.Lock()
			defer mu.Unlock()
			if len(got) != len(tt.want) {
				t.Errorf("asked %v, want %v", got, tt.want)
			}
			for place, want := range tt.want {
				if got[place] != want {
					t.Errorf("%s was given %q, want %q", place, got[place], want)
				}
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
