package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestOrphansAreRemoved makes, by hand, what a crashed agent of long ago could
// have left: containers of a pod that nobody wants, and a pod's directory.
func TestOrphansAreRemoved(t *testing.T) {
	a := start(t)
	web := harness.Pod("web", "")
	a.Write("web.yaml", web)
	p := a.WaitRunning("web")
	running, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	// The agent must not find them half made.
	if err := unix.Kill(a.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := func() { _ = unix.Kill(a.PID(), unix.SIGCONT) }
	defer resume()
	const uid = "00000000000000000000000000000bad"
	orphans := map[string]string{}
	for _, name := range []string{harness.Sandbox, "c"} {
		info, err := a.Docker.Client.ContainerInspect(t.Context(), running[name].ID)
		if err != nil {
			t.Fatal(err)
		}
		cfg, host := *info.Config, container.HostConfig{IpcMode: container.IPCModeShareable}
		cfg.Labels = maps.Clone(cfg.Labels)
		for k, v := range cfg.Labels {
			cfg.Labels[k] = strings.ReplaceAll(v, string(p.UID), uid)
			if v == running[harness.Sandbox].ID {
				cfg.Labels[k] = orphans[harness.Sandbox]
			}
		}
		cfg.Hostname = ""
		if name != harness.Sandbox {
			host.NetworkMode = container.NetworkMode("container:" + orphans[harness.Sandbox])
			host.IpcMode = container.IpcMode("container:" + orphans[harness.Sandbox])
		}
		dockerName := strings.ReplaceAll(strings.TrimPrefix(info.Name, "/"), string(p.UID), uid)
		made, err := a.Docker.Client.ContainerCreate(t.Context(), &cfg, &host, nil, nil, dockerName)
		if err != nil {
			t.Fatal(err)
		}
		orphans[name] = made.ID
		if err := a.Docker.Client.ContainerStart(t.Context(), made.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(a.Dir, "root", "pods", uid)
	if err := os.MkdirAll(filepath.Join(dir, "volumes", "kubernetes.io~empty-dir", "scratch"), 0o750); err != nil {
		t.Fatal(err)
	}
	// The mark of the agent that made it.
	if err := os.WriteFile(filepath.Join(a.Dir, "root", "mini-kubelet", "pods", uid), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	resume()
	harness.Eventually(t, "the orphans are gone", harness.Patience, func() error {
		for name, id := range orphans {
			if _, err := a.Docker.Client.ContainerInspect(t.Context(), id); !cerrdefs.IsNotFound(err) {
				return fmt.Errorf("orphaned %s is still there (%v)", name, err)
			}
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			return fmt.Errorf("the orphaned directory is still there (%v)", err)
		}
		return nil
	}, a.Explain)
	a.CheckExactly(web)
	checkStillRunning(t, a, map[string]string{running["c"].ID: running["c"].Names[0]})
}

// TestHealthFailsWhenDockerNeverAnswersAList waits out the three minutes after
// which the kubelet calls its PLEG unhealthy.
func TestHealthFailsWhenDockerNeverAnswersAList(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than three minutes, left out by -short")
	}
	a, proxy := behindProxy(t)
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	release := make(chan struct{})
	stop := proxy.On(harness.Path("GET", "/containers/json"), harness.Hang(release))
	began := time.Now()
	harness.Eventually(t, "/healthz fails", 4*time.Minute, func() error {
		if _, err := a.Get("/healthz"); err == nil || !strings.Contains(err.Error(), "pleg was last seen active") {
			return fmt.Errorf("after %v it says %v", time.Since(began).Round(time.Second), err)
		}
		return nil
	}, a.Explain)
	if took := time.Since(began); took < 170*time.Second {
		t.Errorf("unhealthy after %v, want 3 minutes", took)
	}
	_, err := a.Get("/healthz")
	t.Logf("after %v /healthz said: %v", time.Since(began).Round(time.Second), err)
	stop()
	close(release)
	harness.Eventually(t, "/healthz recovers", harness.Patience, func() error {
		_, err := a.Get("/healthz")
		return err
	}, a.Explain)
	a.WaitRunning("web")
}

func TestSocketOfTheDockershimIsForRootAlone(t *testing.T) {
	a := start(t)
	info, err := os.Stat(a.CRISocket())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&os.ModeSocket == 0 || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, want a socket with 0660", info.Mode())
	}
	for _, path := range []string{"root", "shim"} {
		info, err := os.Stat(filepath.Join(a.Dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o007 != 0 {
			t.Errorf("directory %s: mode %v, open to everybody", path, info.Mode())
		}
	}
}
