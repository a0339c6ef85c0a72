package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// behindProxy starts an agent that reaches the shared daemon through a proxy.
func behindProxy(t *testing.T) (*harness.Agent, *harness.Proxy) {
	t.Helper()
	t.Parallel()
	proxy := harness.StartProxy(t, harness.Docker(t))
	return harness.StartAgent(t, harness.AgentConfig{Endpoint: proxy.Endpoint}), proxy
}

func kill(t *testing.T, a *harness.Agent, pod string) {
	t.Helper()
	running, err := a.Running(pod)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), running["c"].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
}

func restarted(p *v1.Pod) bool { return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1 }

func TestLosingTheEventStreamCostsOnlyLatency(t *testing.T) {
	a, proxy := behindProxy(t)
	a.Write("pods.yaml", harness.Pod("one", ""), harness.Pod("two", ""), harness.Pod("three", ""))
	for _, name := range []string{"one", "two", "three"} {
		a.WaitRunning(name)
	}
	harness.Eventually(t, "the agent reads Docker's events", harness.Patience, func() error {
		for _, c := range proxy.Calls() {
			if c.Path == "/events" {
				return nil
			}
		}
		return fmt.Errorf("no call of /events")
	})
	restore := proxy.On(harness.Path("GET", "/events"), harness.Fail(http.StatusInternalServerError, "no events today"))
	if proxy.CutEvents() == 0 {
		t.Error("no event stream was open")
	}
	began := time.Now()
	kill(t, a, "one")
	a.WaitPod("one", "is repaired without events", restarted)
	t.Logf("repaired without events in %v", time.Since(began).Round(time.Millisecond))
	late := harness.Pod("late", "")
	a.Write("late.yaml", late)
	a.WaitRunning("late")

	proxy.Forget()
	restore()
	harness.Eventually(t, "the agent reads events again", harness.Patience, func() error {
		for _, c := range proxy.Calls() {
			if c.Path == "/events" {
				return nil
			}
		}
		return fmt.Errorf("no call of /events")
	}, a.Explain)
	kill(t, a, "two")
	a.WaitPod("two", "is repaired", restarted)
	for range 5 { // a stream that breaks again and again
		proxy.CutEvents()
		time.Sleep(50 * time.Millisecond)
	}
	kill(t, a, "three")
	a.WaitPod("three", "is repaired", restarted)
}

func TestInspectThatHangsHarmsNoOtherPod(t *testing.T) {
	a, proxy := behindProxy(t)
	a.Write("pods.yaml", harness.Pod("stuck", ""), harness.Pod("fine", ""))
	a.WaitRunning("stuck")
	a.WaitRunning("fine")
	stuck := harness.ID(harness.Status(a.Pod("stuck"), "c").ContainerID)
	release := make(chan struct{})
	proxy.On(harness.Path("GET", "/containers/"+stuck+"/json"), harness.Hang(release))
	kill(t, a, "stuck") // so that the agent has to look at it

	kill(t, a, "fine")
	a.WaitPod("fine", "is repaired while an inspect hangs", restarted)
	a.Write("late.yaml", harness.Pod("late", ""))
	a.WaitRunning("late")
	a.Remove("late.yaml")
	a.WaitGone("late")
	if _, err := a.Get("/healthz"); err != nil {
		t.Errorf("one container that cannot be inspected made the node unhealthy: %v", err)
	}
	close(release)
	a.WaitPod("stuck", "is repaired after the inspect answers", restarted)
}

func TestStartThatHangsHarmsNoOtherPod(t *testing.T) {
	a, proxy := behindProxy(t)
	a.Write("first.yaml", harness.Pod("first", ""))
	a.WaitRunning("first")
	// The next container that is started hangs in Docker, as on a dead NFS server.
	release, hangs := make(chan struct{}), make(chan struct{})
	hung := false
	proxy.On(func(c harness.Call) bool {
		if !hung && c.Method == http.MethodPost && strings.HasSuffix(c.Path, "/start") {
			hung = true
			close(hangs)
			return true
		}
		return false
	}, harness.Hang(release))
	a.Write("stuck.yaml", harness.Pod("stuck", ""))
	select { // until it is this pod's: the next one's may be faster
	case <-hangs:
	case <-time.After(harness.Patience):
		t.Fatalf("no start came\n%s", a.Explain())
	}
	a.Write("other.yaml", harness.Pod("other", ""))
	a.WaitRunning("other")
	kill(t, a, "first")
	a.WaitPod("first", "is repaired while a start hangs", restarted)
	close(release)
	a.WaitRunning("stuck")
	a.CheckExactly(harness.Pod("first", ""), harness.Pod("other", ""), harness.Pod("stuck", ""))
}

func TestDockerErrorsAreRetried(t *testing.T) {
	t.Parallel()
	for name, match := range map[string]func(harness.Call) bool{
		"create": harness.Path("POST", "/containers/create"),
		"start":  func(c harness.Call) bool { return c.Method == http.MethodPost && strings.HasSuffix(c.Path, "/start") },
		"list":   harness.Path("GET", "/containers/json"),
		"inspect": func(c harness.Call) bool {
			return c.Method == http.MethodGet && strings.HasPrefix(c.Path, "/containers/") && c.Path != "/containers/json"
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, proxy := behindProxy(t)
			failures := 0
			proxy.On(func(c harness.Call) bool {
				if !match(c) || failures == 2 {
					return false
				}
				failures++
				return true
			}, harness.Fail(http.StatusInternalServerError, "devmapper: thin pool is on fire"))
			pod := harness.Pod("web", "")
			a.Write("web.yaml", pod)
			a.WaitRunning("web")
			a.WaitExactly(pod)
			a.Remove("web.yaml")
			a.WaitGone("web")
		})
	}
}

func TestSlowDockerIsOnlySlow(t *testing.T) {
	a, proxy := behindProxy(t)
	proxy.On(func(c harness.Call) bool { return c.Path != "/events" }, harness.Delay(150*time.Millisecond))
	pods := []*v1.Pod{harness.Pod("one", ""), harness.Pod("two", ""), harness.Pod("three", "")}
	a.Write("pods.yaml", pods...)
	for _, p := range pods {
		a.WaitRunning(p.Name)
	}
	a.CheckExactly(pods...)
	for _, p := range pods {
		if n := harness.Status(a.Pod(p.Name), "c").RestartCount; n != 0 {
			t.Errorf("pod %s was restarted %d times", p.Name, n)
		}
	}
}

// TestDamagedCheckpoint damages the record that the dockershim keeps of a
// sandbox, with the agent down and up.
func TestDamagedCheckpoint(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"garbage": func(path string) error { return os.WriteFile(path, []byte("\x00\xff{]garbage"), 0o600) },
		"missing": os.Remove,
	} {
		for _, up := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s with the agent up %v", name, up), func(t *testing.T) {
				a := start(t)
				pods := []*v1.Pod{harness.Pod("hit", ""), harness.Pod("other", "")}
				a.Write("hit.yaml", pods[0])
				a.Write("other.yaml", pods[1])
				a.WaitRunning("hit")
				a.WaitRunning("other")
				running, err := a.Running("hit")
				if err != nil {
					t.Fatal(err)
				}
				sandbox := running[harness.Sandbox].ID
				path := ""
				for _, f := range harness.Files(a.Dir) {
					if filepath.Base(f) == sandbox {
						path = filepath.Join(a.Dir, f)
					}
				}
				if path == "" {
					t.Fatalf("no checkpoint named %s below %s", sandbox, a.Dir)
				}
				before := runningIDs(t, a)
				if !up {
					a.Kill()
				}
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				if !up {
					a.Start()
				}
				late := harness.Pod("late", "")
				a.Write("late.yaml", late)
				a.WaitRunning("late")
				a.WaitRunning("hit")
				a.WaitRunning("other")
				a.CheckExactly(append(pods, late)...)
				checkStillRunning(t, a, before)
				a.Remove("hit.yaml")
				a.WaitGone("hit")
				a.CheckExactly(pods[1], late)
			})
		}
	}
}

// TestASandboxThatCannotBeNotedIsNotStarted, as on a disk that is full or read-only: its end would bring on the next one at once.
func TestASandboxThatCannotBeNotedIsNotStarted(t *testing.T) {
	a, proxy := behindProxy(t)
	dir := filepath.Join(a.Dir, "shim", "sandbox")
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skipf("this environment cannot mount: %v", err)
	}
	unmount := sync.OnceFunc(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	t.Cleanup(unmount)
	a.Write("web.yaml", harness.Pod("web", ""))
	waitLog(t, a, "FailedCreatePodSandBox", "write checkpoint")
	if n := proxy.Count(harness.Path(http.MethodPost, "/start")); n > 0 {
		t.Errorf("%d containers were started", n)
	}
	unmount()
	a.WaitRunning("web")
}
