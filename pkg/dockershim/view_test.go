package dockershim

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/client"
)

// countingDocker lists one container of pod "u" and one of pod "v", and counts how
// often it is asked.
type countingDocker struct {
	lists, inspections atomic.Int32
	inspecting         func() // called while an inspection is answered
	hangs              string // the container about which it never answers
	givenUp            atomic.Bool
}

func (d *countingDocker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("API-Version", "1.41")
	labels := func(pod string) string {
		return fmt.Sprintf(`{%q: "/state", %q: %q}`, labelStateDir, labelPodUID, pod)
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		d.lists.Add(1)
		var all []string
		for _, pod := range []string{"u", "v"} {
			if filter := r.URL.Query().Get("filters"); !strings.Contains(filter, labelPodUID) || strings.Contains(filter, labelPodUID+"="+pod) {
				all = append(all, fmt.Sprintf(`{"Id": "in-%s", "Names": ["/k8s_c_p_n_%[1]s_0"], "State": "running", "Labels": %s}`, pod, labels(pod)))
			}
		}
		fmt.Fprintf(w, "[%s]", strings.Join(all, ","))
	case strings.Contains(r.URL.Path, "/containers/in-"):
		d.inspections.Add(1)
		if d.hangs != "" && strings.Contains(r.URL.Path, d.hangs) {
			<-r.Context().Done()
			d.givenUp.Store(true)
			return
		}
		if d.inspecting != nil {
			d.inspecting()
		}
		fmt.Fprintf(w, `{"Id": "in-u", "Name": "/k8s_c_p_n_u_0", "State": {"Running": true}, "Config": {"Labels": %s}}`, labels("u"))
	}
}

func newTestView(t *testing.T, d *countingDocker) *view {
	t.Helper()
	dir, err := os.MkdirTemp("", "view")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: d}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	c, err := client.NewClientWithOpts(client.WithHost("unix://"+path), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newView(&engine{Client: c, http: c.HTTPClient()}, "/state")
}

func TestViewAsksDockerNoMoreThanItMust(t *testing.T) {
	d := &countingDocker{}
	v := newTestView(t, d)
	v.age = time.Hour // however slow the machine is
	list := func(podUID string, want int) {
		t.Helper()
		items, err := v.containers(t.Context(), podUID)
		if err != nil || len(items) != want {
			t.Fatalf("list %q: %v, %v", podUID, items, err)
		}
	}
	asked := func(what string, lists, inspections int32) {
		t.Helper()
		if l, i := d.lists.Swap(0), d.inspections.Swap(0); l != lists || i != inspections {
			t.Errorf("%s: %d lists and %d inspections, want %d and %d", what, l, i, lists, inspections)
		}
	}
	inspect := func() {
		t.Helper()
		if _, err := v.inspect(t.Context(), "in-u"); err != nil {
			t.Fatal(err)
		}
	}
	list("", 2)
	list("", 2)
	inspect()
	inspect()
	asked("without an event stream nothing is kept", 2, 2)

	v.setLive(true)
	list("", 2)
	list("", 2)
	list("u", 1)
	list("v", 1)
	list("u", 1)
	inspect()
	inspect()
	asked("with one, once each", 3, 1)

	v.happened("in-u", events.ActionPause)
	list("v", 1)
	asked("another pod's list is not concerned by a change", 0, 0)
	list("", 2)
	list("u", 1)
	inspect()
	asked("those that are, are asked for anew", 2, 1)

	v.changed("unknown")
	list("v", 1)
	asked("a container that nobody knows may be of any pod", 1, 0)

	v.setLive(false)
	list("v", 1)
	inspect()
	asked("a stream that broke", 1, 1)
}

func TestAnAnswerThatIsOutdatedOnArrivalIsNotKept(t *testing.T) {
	d := &countingDocker{}
	v := newTestView(t, d)
	v.setLive(true)
	d.inspecting = func() { v.changed("in-u") }
	for range 2 {
		if _, err := v.inspect(t.Context(), "in-u"); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.inspections.Load(); n != 2 {
		t.Errorf("%d inspections, want 2", n)
	}
}

func TestOnlyOurContainersAreShown(t *testing.T) {
	v := newTestView(t, &countingDocker{})
	v.label = labelStateDir + "=/elsewhere"
	if r, err := v.inspect(t.Context(), "in-u"); err == nil {
		t.Errorf("shown: %v", r)
	}
}
