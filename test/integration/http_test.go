package integration

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/util/json"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestManifestFromAURL(t *testing.T) {
	t.Parallel()
	type answer struct {
		status int
		body   string
	}
	var now atomic.Pointer[answer]
	var asked, wrongHeader atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("X-Node-Key") != "sesame" {
			wrongHeader.Add(1)
		}
		a := now.Load()
		w.WriteHeader(a.status)
		_, _ = w.Write([]byte(a.body))
	}))
	defer srv.Close()
	web := harness.Pod("web", "")
	now.Store(&answer{http.StatusOK, harness.Manifest(web)})

	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{
		"staticPodURL":       srv.URL + "/pods.yaml",
		"staticPodURLHeader": map[string][]string{"X-Node-Key": {"sesame"}},
		"httpCheckFrequency": "1s",
	}})
	first := a.WaitRunning("web")
	if s := first.Annotations["kubernetes.io/config.source"]; s != "http" {
		t.Errorf("source %q, want http", s)
	}
	for _, bad := range []answer{
		{http.StatusInternalServerError, "broken"},
		{http.StatusOK, "\x00\xff not YAML at all {["},
		{http.StatusOK, "<html>log in first</html>"},
		{http.StatusNotFound, ""},
	} {
		now.Store(&bad)
		until := asked.Load() + 2
		harness.Eventually(t, "the URL is asked again", harness.Patience, func() error {
			if asked.Load() < until {
				return http.ErrServerClosed
			}
			return nil
		})
		p := a.WaitRunning("web")
		if harness.Status(p, "c").ContainerID != harness.Status(first, "c").ContainerID {
			t.Errorf("answer %d %q: the good pod was touched", bad.status, bad.body)
		}
	}
	list, err := json.Marshal(v1.PodList{Items: []v1.Pod{*harness.Pod("one", ""), *harness.Pod("two", "")}})
	if err != nil {
		t.Fatal(err)
	}
	now.Store(&answer{http.StatusOK, string(list)[:1] + `"apiVersion":"v1","kind":"PodList",` + string(list)[1:]})
	a.WaitRunning("one")
	a.WaitRunning("two")
	a.WaitGone("web")
	if wrongHeader.Load() > 0 {
		t.Errorf("%d of %d requests lacked the header", wrongHeader.Load(), asked.Load())
	}
	// A file source beside it is a source of its own.
	a.Write("three.yaml", harness.Pod("three", ""))
	a.WaitRunning("three")
	a.CheckExactly(harness.Pod("one", ""), harness.Pod("two", ""), harness.Pod("three", ""))
}

func TestURLThatNeverAnswersDoesNotDelayFilesOrKillPods(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(release)
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{"staticPodURL": srv.URL}})
	web := harness.Pod("web", "")
	a.Write("web.yaml", web)
	a.WaitRunning("web")
	a.CheckExactly(web)
}
