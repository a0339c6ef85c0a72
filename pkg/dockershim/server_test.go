package dockershim

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker/dockertest"
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

func TestListenReplacesOnlyASocketThatIsDead(t *testing.T) {
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "new", "cri.sock")
	first, err := listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket is %v, %v; want mode 0660", info, err)
	}
	if _, err := listen(t.Context(), "unix://"+path); err == nil || !strings.Contains(err.Error(), "another process does") {
		t.Errorf("second listener: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after SIGKILL
	first.Close()
	again, err := listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	again.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), "unix://"+path); err == nil {
		t.Error("a file was replaced by a socket")
	}
	for _, endpoint := range []string{"", "tcp://127.0.0.1:1", "unix://relative", "/var/run/x.sock"} {
		if _, err := listen(t.Context(), endpoint); err == nil {
			t.Errorf("listens on %q", endpoint)
		}
	}
}

func TestTheSandboxImageIsNotedByManyAtOnce(t *testing.T) {
	s := &Server{cfg: Config{StateDir: t.TempDir()}}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := s.noteSandboxImage(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(s.sandboxImageFile()); err != nil {
		t.Error(err)
	}
}
