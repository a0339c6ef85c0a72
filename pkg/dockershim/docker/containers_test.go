package docker

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"

	"github.com/mini-kubelet/mini-kubelet/test/dockertest"
)

// newTestContainers connects to a fake Docker whose containers are of this dockershim.
func newTestContainers(t *testing.T, d http.Handler) *Containers {
	t.Helper()
	e, err := Connect(t.Context(), dockertest.Serve(t, d), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return NewContainers(e, dockertest.StateDir)
}

func TestViewAsksDockerNoMoreThanItMust(t *testing.T) {
	d := &dockertest.Pods{}
	c := newTestContainers(t, d)
	c.age = time.Hour // however slow the machine is
	list := func(podUID string, want int) {
		t.Helper()
		items, err := c.List(t.Context(), podUID)
		if err != nil || len(items) != want {
			t.Fatalf("list %q: %v, %v", podUID, items, err)
		}
	}
	asked := func(what string, lists, inspections int32) {
		t.Helper()
		if l, i := d.Lists.Swap(0), d.Inspections.Swap(0); l != lists || i != inspections {
			t.Errorf("%s: %d lists and %d inspections, want %d and %d", what, l, i, lists, inspections)
		}
	}
	inspect := func() {
		t.Helper()
		if _, err := c.Inspect(t.Context(), "in-u"); err != nil {
			t.Fatal(err)
		}
	}
	list("", 2)
	list("", 2)
	inspect()
	inspect()
	asked("without an event stream nothing is kept", 2, 2)

	c.setLive(true)
	list("", 2)
	list("", 2)
	list("u", 1)
	list("v", 1)
	list("u", 1)
	inspect()
	inspect()
	asked("with one, once each", 3, 1)

	c.happened("in-u", events.ActionPause)
	list("v", 1)
	asked("another pod's list is not concerned by a change", 0, 0)
	list("", 2)
	list("u", 1)
	inspect()
	asked("those that are, are asked for anew", 2, 1)

	c.changed("unknown")
	list("v", 1)
	asked("a container that nobody knows may be of any pod", 1, 0)

	c.setLive(false)
	list("v", 1)
	inspect()
	asked("a stream that broke", 1, 1)
}

// The stream goes on, but the event of a container's end was lost.
func TestAnInspectionIsNotKeptThatANewerListContradicts(t *testing.T) {
	d := &dockertest.Pods{}
	c := newTestContainers(t, d)
	c.setLive(true)
	running := func() bool {
		t.Helper()
		r, err := c.Inspect(t.Context(), "in-u")
		if err != nil {
			t.Fatal(err)
		}
		return r.State.Running
	}
	if !running() {
		t.Fatal("it does not run at first")
	}
	d.Exited.Store(true)
	if _, err := c.List(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if running() {
		t.Error("it still runs though a list has shown that it has exited")
	}
}

func TestAnAnswerThatIsOutdatedOnArrivalIsNotKept(t *testing.T) {
	d := &dockertest.Pods{}
	c := newTestContainers(t, d)
	c.setLive(true)
	d.Inspecting = func() { c.changed("in-u") }
	for range 2 {
		if _, err := c.Inspect(t.Context(), "in-u"); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.Inspections.Load(); n != 2 {
		t.Errorf("%d inspections, want 2", n)
	}
}

func TestOnlyOurContainersAreShown(t *testing.T) {
	c := newTestContainers(t, &dockertest.Pods{})
	c.label = LabelStateDir + "=/elsewhere"
	if r, err := c.Inspect(t.Context(), "in-u"); !errdefs.IsNotFound(err) {
		t.Errorf("shown: %v, %v", r, err)
	}
}

func TestOverlayCorrectsALaggingList(t *testing.T) {
	c := NewContainers(nil, "/state")
	items := []Item{{ID: "a", State: StateRunning}, {ID: "b", State: StateRunning}, {ID: "f", State: StateCreated}}
	c.happened("a", events.ActionDie)
	c.StartFailed("f")
	got := c.overlay(items)
	if got[0].State != StateExited || got[1].State != StateRunning || got[2].State != StateExited {
		t.Errorf("overlaid %v", got)
	}
	if items[0].State != StateRunning {
		t.Error("the shared list was changed")
	}
	c.happened("a", events.ActionStart)
	if got := c.overlay(items); got[0].State != StateRunning {
		t.Errorf("started again, and still %v", got[0].State)
	}
}

// Their removal was missed while the stream was broken.
func TestNothingIsKeptOfContainersThatAreGone(t *testing.T) {
	c := newTestContainers(t, &dockertest.Pods{})
	for _, id := range []string{"gone", "in-u"} {
		c.belongs(id, "u")
		c.happened(id, events.ActionOOM)
		c.happened(id, events.ActionDie)
		c.StartFailed(id)
	}
	if _, err := c.List(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	if !c.OutOfMemory("gone") {
		t.Error("one pod's list says nothing of others")
	}
	c.setLive(false)
	if _, err := c.List(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]map[string]bool{"dead": c.dead, "failed": c.failed, "oom": c.oom} {
		if of["gone"] {
			t.Errorf("%s has what is gone", name)
		}
		if !of["in-u"] && name != "dead" {
			t.Errorf("%s lacks what is there", name)
		}
	}
	if _, known := c.pods["gone"]; known {
		t.Error("the pod of what is gone is known")
	}
}

// The client library makes a path of an ID.
func TestAnIDLeadsNowhereElseInDocker(t *testing.T) {
	asked := 0
	c := newTestContainers(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/containers/") {
			asked++
		}
		(&dockertest.Pods{}).ServeHTTP(w, r)
	}))
	for _, id := range []string{"../containers", "..", ".", "a/b", "a?b", "a#b", "a%2f", "a b", "ä", "a\x00"} {
		if _, err := c.Inspect(t.Context(), id); !errdefs.IsNotFound(err) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if asked > 0 {
		t.Errorf("Docker was asked %d times", asked)
	}
}
