package docker

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/mini-kubelet/mini-kubelet/test/dockertest"
)

func TestNameConflicts(t *testing.T) {
	for name, tc := range map[string]struct {
		exists bool
		by     held
		want   conflict
	}{
		"gone meanwhile":       {false, held{}, tryAgain},
		"somebody else's":      {true, held{state: StateCreated}, sidestep},
		"leftover":             {true, held{ours: true, state: StateCreated}, replace},
		"runs":                 {true, held{ours: true, state: StateRunning}, refuse},
		"has run":              {true, held{ours: true, state: StateExited}, sidestep},
		"somebody else's runs": {true, held{state: StateRunning}, sidestep},
	} {
		if got := decideConflict(tc.exists, tc.by); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// busyDocker has one container of ours, which runs, under every name.
type busyDocker struct{}

func (busyDocker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("API-Version", "1.41")
	switch {
	case strings.HasSuffix(r.URL.Path, "/info"):
		fmt.Fprint(w, "{}")
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/containers/json"):
		fmt.Fprintf(w, `[{"Id": "x", "Names": ["/k8s_c_p_n_u_0"], "State": "created", "Labels": {%q: %q}}]`, LabelStateDir, dockertest.StateDir)
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/json"):
		fmt.Fprintf(w, `{"Id": "x", "Name": "/k8s_c_p_n_u_0", "State": {"Status": "running"}, "Config": {"Labels": {%q: %q}}}`, LabelStateDir, dockertest.StateDir)
	case strings.HasSuffix(r.URL.Path, "/start"):
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"message": "no such program"}`)
	case r.Method == http.MethodPost, r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"message": "it runs"}`)
	}
}

func TestErrorsOfChangesHaveTheirKind(t *testing.T) {
	c := newTestContainers(t, busyDocker{})
	_, err := c.Create(t.Context(), &ContainerSpec{Name: "k8s_c_p_n_u_0", Config: &container.Config{Labels: map[string]string{}}, Host: &container.HostConfig{}})
	if !errdefs.IsAlreadyExists(err) || err.Error() != "k8s_c_p_n_u_0 exists and runs as x" {
		t.Errorf("create: %v", err)
	}
	if err := c.RemoveUnlessRunning(t.Context(), "x"); !errdefs.IsConflict(err) {
		t.Errorf("remove: %v", err)
	}
}

func TestAContainerThatCouldNotBeStartedIsListedAsEnded(t *testing.T) {
	c := newTestContainers(t, busyDocker{})
	if err := c.Start(t.Context(), "x"); err == nil {
		t.Error("it was started")
	}
	if items, err := c.List(t.Context(), ""); err != nil || len(items) != 1 || items[0].State != StateExited {
		t.Errorf("listed as %+v, %v", items, err)
	}
}
