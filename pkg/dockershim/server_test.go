package dockershim

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/dockertest"
)

// fakeDocker answers what New asks, with the given API version and cgroup driver.
func fakeDocker(t *testing.T, api, driver string) (endpoint string) {
	t.Helper()
	return dockertest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("API-Version", api)
		if strings.HasSuffix(r.URL.Path, "/info") {
			fmt.Fprintf(w, `{"CgroupDriver": %q, "DockerRootDir": "/var/lib/docker"}`, driver)
		}
	}))
}

func TestNewChecksDocker(t *testing.T) {
	for name, tc := range map[string]struct {
		api, driver, wanted string
		err                 string
	}{
		"good":                  {"1.41", "cgroupfs", "cgroupfs", ""},
		"driver is not set":     {"1.26", "systemd", "", ""},
		"too old":               {"1.25", "cgroupfs", "", "speaks API 1.25 at most; 1.26 or newer is needed"},
		"another cgroup driver": {"1.41", "cgroupfs", "systemd", `misconfiguration: kubelet cgroup driver: "systemd" is different from docker cgroup driver: "cgroupfs"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(t.Context(), Config{DockerEndpoint: fakeDocker(t, tc.api, tc.driver), StateDir: t.TempDir(), CgroupDriver: tc.wanted, NetworkPlugin: "docker"})
			if err == nil {
				s.streams.Close()
				s.docker.Close()
			}
			switch {
			case tc.err == "" && err != nil:
				t.Errorf("error %v", err)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("error %v, want %s", err, tc.err)
			}
		})
	}
}
