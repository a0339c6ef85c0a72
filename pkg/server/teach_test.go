package server

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestTheGatesOfTeachingMode(t *testing.T) {
	for name, gates := range map[string]Gates{"on": gate.New(gate.Config{Closed: true}), "off": nil} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.sock")
			s, err := New(Config{Pods: podList{}, Local: &LocalConfig{Path: path, Content: Content{Host: &host{}, Configz: func() any { return nil }, Gates: gates}}})
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: socketTransport(t, path)}
			testrun.Start(t, s.Run)
			post := func(body string) int {
				t.Helper()
				resp, err := client.Post("http://local"+TeachPath, "application/json", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}
			if gates == nil {
				if code := post(`{"do":"run"}`); code != http.StatusNotFound {
					t.Errorf("without teaching mode: %d", code)
				}
				return
			}
			if _, body := ask(t, client, "GET", "http://local"+TeachPath); !strings.Contains(body, `"paused"`) {
				t.Errorf("closed gates: %s", body)
			}
			for body, want := range map[string]int{
				`{"do":"run"}`: 200, `{"do":"slow","factor":10}`: 200, `{"do":"next"}`: 400, `{"do":"x"}`: 400, `{`: 400,
				`{"do":"` + strings.Repeat("x", maxTeachRequest) + `"}`: 400,
			} {
				if code := post(body); code != want {
					t.Errorf("%.40s: %d, want %d", body, code, want)
				}
			}
		})
	}
}
