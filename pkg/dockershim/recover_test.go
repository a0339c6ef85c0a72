package dockershim

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/checkpoint"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/network"
	"github.com/mini-kubelet/mini-kubelet/test/dockertest"
)

// attached is a network to which sandboxes are attached.
type attached struct {
	network.Plugin
	ids, gone []string
}

func (a *attached) Reconcile(_ context.Context, exists func(id string) bool) error {
	for _, id := range a.ids {
		if !exists(id) {
			a.gone = append(a.gone, id)
		}
	}
	return nil
}

// The list of what exists is older than the look at what is attached.
func TestTheNetworkOfASandboxThatCameMeanwhileIsKept(t *testing.T) {
	e, err := docker.Connect(t.Context(), dockertest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("API-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/info"):
			fmt.Fprint(w, "{}")
		case strings.HasSuffix(r.URL.Path, "/containers/new/json"):
			fmt.Fprintf(w, `{"Id": "new", "Name": "/k8s_POD_p_n_u_0", "State": {}, "HostConfig": {}, "Config": {"Labels": {"io.mini-kubelet.state-dir": %q, %q: %q}}}`,
				dockertest.StateDir, docker.LabelType, docker.TypeSandbox)
		case strings.HasSuffix(r.URL.Path, "/containers/unknown/json"):
			w.WriteHeader(http.StatusInternalServerError)
		case strings.Contains(r.URL.Path, "/containers/"):
			w.WriteHeader(http.StatusNotFound)
		}
	})), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	checkpoints, err := checkpoint.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := &attached{ids: []string{"old", "new", "gone", "unknown"}}
	s := &Server{state: state{containers: docker.NewContainers(e, dockertest.StateDir), checkpoints: checkpoints}, services: services{network: n}}
	if err := s.forgetGone(t.Context(), []docker.Item{{ID: "old"}}); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("%v, want an error about the sandbox of which Docker tells nothing", err)
	}
	if !slices.Equal(n.gone, []string{"gone"}) {
		t.Errorf("detached: %v, want the one that is gone", n.gone)
	}
}

// The process of a sandbox has ended, which Docker does not know yet, and its number is another's.
func TestAnotherProcessIsNotTheSandbox(t *testing.T) {
	id := strings.Repeat("a", 64)
	e, err := docker.Connect(t.Context(), dockertest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("API-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/info"):
			fmt.Fprint(w, "{}")
		case strings.HasSuffix(r.URL.Path, "/json"):
			fmt.Fprintf(w, `{"Id": %q, "Name": "/k8s_POD_p_n_u_0", "State": {"Running": true, "Pid": %d}, "HostConfig": {}, "Config": {"Labels": {"io.mini-kubelet.state-dir": %q, %q: %q}}}`,
				id, os.Getpid(), dockertest.StateDir, docker.LabelType, docker.TypeSandbox)
		}
	})), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	s := &Server{state: state{containers: docker.NewContainers(e, dockertest.StateDir)}}
	if netns, err := s.netns(t.Context(), id); err != nil || netns != "" {
		t.Errorf("the network namespace %q of a process that is not the sandbox's, %v", netns, err)
	}
}
