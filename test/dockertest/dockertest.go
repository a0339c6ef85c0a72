// Package dockertest serves a fake Docker Engine to the tests of package docker and of
// those who use it.
package dockertest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Serve answers Docker's API with h until the test ends, and returns the endpoint.
func Serve(t testing.TB, h http.Handler) (endpoint string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "docker") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return "unix://" + path
}

// StateDir is the state directory of the dockershim to which the containers of Pods belong.
const StateDir = "/state"

// Pods is a Docker with two running containers, "in-u" of pod "u" and "in-v" of pod "v",
// and counts how often it is asked about them.
type Pods struct {
	Lists, Inspections atomic.Int32
	Inspecting         func() // called while an inspection is answered, if set
	Hangs              string // the container about which it never answers
	GivenUp            atomic.Bool
	Exited             atomic.Bool // they run no more
}

func (d *Pods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const podUID = "io.kubernetes.pod.uid"
	w.Header().Set("API-Version", "1.41")
	labels := func(pod string) string {
		return fmt.Sprintf(`{"io.mini-kubelet.state-dir": %q, %q: %q}`, StateDir, podUID, pod)
	}
	state := "running"
	if d.Exited.Load() {
		state = "exited"
	}
	_, id, inspects := strings.Cut(r.URL.Path, "/containers/in-")
	switch {
	case strings.HasSuffix(r.URL.Path, "/info"):
		fmt.Fprint(w, "{}")
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		d.Lists.Add(1)
		var all []string
		for _, pod := range []string{"u", "v"} {
			if filter := r.URL.Query().Get("filters"); !strings.Contains(filter, podUID) || strings.Contains(filter, podUID+"="+pod) {
				all = append(all, fmt.Sprintf(`{"Id": "in-%s", "Names": ["/k8s_c_p_n_%[1]s_0"], "State": %q, "Labels": %s}`, pod, state, labels(pod)))
			}
		}
		fmt.Fprintf(w, "[%s]", strings.Join(all, ","))
	case inspects:
		d.Inspections.Add(1)
		if d.Hangs != "" && strings.Contains(r.URL.Path, d.Hangs) {
			<-r.Context().Done()
			d.GivenUp.Store(true)
			return
		}
		if d.Inspecting != nil {
			d.Inspecting()
		}
		pod := strings.TrimSuffix(id, "/json")
		fmt.Fprintf(w, `{"Id": "in-%s", "Name": "/k8s_c_p_n_%[1]s_0", "State": {"Status": %q, "Running": %t}, "HostConfig": {}, "Config": {"Labels": %s}}`, pod, state, state == "running", labels(pod))
	}
}
