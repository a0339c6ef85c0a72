package server

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/ownsocket"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/recent"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// startLocal serves the kubelet API of h on a socket.
func startLocal(t *testing.T, h Host, events Events) (path string, client *http.Client) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "api", "agent.sock")
	s, err := New(Config{
		Pods: podList{{ObjectMeta: metav1.ObjectMeta{Name: "wanted"}}},
		Local: &LocalConfig{Path: path, Content: Content{
			Host: h, Configz: func() any { return nil }, Debugging: true, Events: events, Versions: map[string]string{"agent": "v7"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	transport := socketTransport(t, path)
	testrun.Start(t, s.Run)
	return path, &http.Client{Transport: transport}
}

func socketTransport(t *testing.T, path string) *http.Transport {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return ownsocket.Dial(ctx, path) }}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func TestTheSocketServesTheKubeletAPI(t *testing.T) {
	h := &host{logs: func(_ context.Context, _ *v1.PodLogOptions, stdout, _ io.Writer) error {
		_, err := io.WriteString(stdout, "line\n")
		return err
	}}
	_, client := startLocal(t, h, nil)
	for path, want := range map[string]string{
		"/healthz": "ok", "/pods": `"wanted"`, "/runningpods/": `"running"`, "/stats/summary": `"n1"`, "/metrics": "",
		"/containerLogs/ns/p/c": "line\n", "/configz": "kubeletconfig", VersionsPath: `"v7"`,
	} {
		if code, body := ask(t, client, "GET", "http://local"+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	if code, _ := ask(t, client, "GET", "http://local"+EventsPath); code != 404 {
		t.Errorf("events of nobody: %d", code)
	}
}

func TestASocketThatCannotBeServedIsRefused(t *testing.T) {
	path, _ := startLocal(t, &host{}, nil)
	content := Content{Host: &host{}, Configz: func() any { return nil }}
	for name, c := range map[string]LocalConfig{
		"no path": {Content: content}, "no content": {Path: path + "2"}, "a socket that is served": {Path: path, Content: content},
	} {
		if s, err := New(Config{Local: &c, Pods: podList{}}); err == nil {
			s.close()
			t.Errorf("%s: New succeeded", name)
		}
	}
}

func TestEventsAreListedAndWatched(t *testing.T) {
	sink := recent.New(recent.Config{Node: "n1", Now: time.Now})
	_, client := startLocal(t, &host{}, sink)
	if code, body := ask(t, client, "GET", "http://local"+EventsPath); code != 200 || !strings.Contains(body, `"items":[]`) {
		t.Errorf("none: %d %q", code, body)
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}}
	record := func() {
		sink.Record(journal.Entry{Time: time.Now(), Pod: pod, Type: v1.EventTypeWarning, Reason: "BackOff", Message: "again"})
	}
	record()
	var list v1.EventList
	if _, body := ask(t, client, "GET", "http://local"+EventsPath); json.Unmarshal([]byte(body), &list) != nil || list.Kind != "EventList" || len(list.Items) != 1 || list.Items[0].InvolvedObject.Name != "web" {
		t.Errorf("one: %s", body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://local"+EventsPath+"?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i, want := range []string{`{"type":"ADDED"`, `{"type":"MODIFIED"`} {
		if i > 0 {
			record()
		}
		if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%q, %v, want %s", line, err, want)
		}
	}
}
