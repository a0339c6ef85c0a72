package integration

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestDeathIsActedOnAtOnce checks that a container is replaced because of Docker's
// "die": no relist succeeds from before its death until it runs again.
func TestDeathIsActedOnAtOnce(t *testing.T) {
	d := harness.Docker(t)
	proxy := harness.StartProxy(t, d)
	a := harness.StartAgent(t, harness.AgentConfig{Endpoint: proxy.Endpoint})
	seen := harness.WatchEvents(a)
	var pods []*v1.Pod
	for i := range 6 {
		// One pod for each death: a second death of one container means back-off.
		pods = append(pods, harness.Pod(fmt.Sprintf("p%d", i), ""))
	}
	a.Write("all.yaml", pods...)
	for _, p := range pods {
		a.WaitRunning(p.Name)
	}
	relist := func(c harness.Call) bool {
		return c.Path == "/containers/json" && !strings.Contains(c.Query, "io.kubernetes.pod.uid")
	}
	var acted, repaired []time.Duration
	for i, p := range pods {
		id := harness.ID(harness.Status(a.Pod(p.Name), "c").ContainerID)
		info, err := d.Client.ContainerInspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		restore := proxy.On(relist, harness.Fail(http.StatusInternalServerError, "no list now"))
		proxy.Forget()
		harness.Eventually(t, "no relist is under way that may succeed", harness.Patience, func() error {
			if proxy.Count(relist) < 2 {
				return errors.New("not yet")
			}
			return nil
		}, a.Explain)
		proxy.Forget()
		if i%2 == 0 {
			err = d.Client.ContainerKill(t.Context(), id, "KILL")
		} else {
			err = unix.Kill(info.State.Pid, unix.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		died := seen.Wait(1, "die", p.Name, "c", harness.Patience)[0].At
		a.WaitPod(p.Name, "runs again", func(p *v1.Pod) bool {
			s := harness.Status(p, "c")
			return s.RestartCount == 1 && s.State.Running != nil
		})
		started := seen.Wait(2, "start", p.Name, "c", harness.Patience)[1].At
		repaired = append(repaired, started.Sub(died))
		calls := proxy.Calls()
		created := slices.IndexFunc(calls, func(c harness.Call) bool { return c.Path == "/containers/create" })
		if created < 0 {
			t.Fatalf("%s runs again, though nothing was created: %v", p.Name, calls)
		}
		acted = append(acted, calls[created].At.Sub(died))
		restore()
	}
	slices.Sort(acted)
	slices.Sort(repaired)
	t.Logf("from a container's death to the call that replaces it: median %v, worst %v; to its start: median %v",
		acted[len(acted)/2].Round(time.Millisecond), acted[len(acted)-1].Round(time.Millisecond), repaired[len(repaired)/2].Round(time.Millisecond))
}

func TestContainerKilledIsRestartedInTheSameSandbox(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	before, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), before["c"].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	p := a.WaitPod("web", "has restarted its container", func(p *v1.Pod) bool {
		return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1
	})
	last := harness.Status(p, "c").LastTerminationState.Terminated
	if last == nil || last.ExitCode != 137 || harness.ID(last.ContainerID) != before["c"].ID {
		t.Errorf("last state %+v, want the killed container with 137", last)
	}
	after, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	if after[harness.Sandbox].ID != before[harness.Sandbox].ID {
		t.Error("the sandbox was replaced too")
	}
	if n := harness.ParseName(after["c"]); n.Attempt != "1" {
		t.Errorf("attempt %s, want 1", n.Attempt)
	}
}

func TestContainerRemovedBehindItsBackIsReplaced(t *testing.T) {
	a := start(t)
	pod := harness.Pod("web", "", func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, harness.Container("other", "")) })
	a.Write("web.yaml", pod)
	a.WaitRunning("web")
	before, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerRemove(t.Context(), before["c"].ID, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	a.WaitPod("web", "runs a new container", func(p *v1.Pod) bool {
		return harness.Ready(p) && harness.ID(harness.Status(p, "c").ContainerID) != before["c"].ID
	})
	a.WaitExactly(pod)
	after, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	if after[harness.Sandbox].ID != before[harness.Sandbox].ID || after["other"].ID != before["other"].ID {
		t.Error("more than the removed container was replaced")
	}
}

func TestSandboxLostBehindItsBackIsReplacedWithTheNextAttempt(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, a *harness.Agent, id string) error{
		"killed": func(t *testing.T, a *harness.Agent, id string) error {
			return a.Docker.Client.ContainerKill(t.Context(), id, "KILL")
		},
		"stopped": func(t *testing.T, a *harness.Agent, id string) error {
			now := 0
			return a.Docker.Client.ContainerStop(t.Context(), id, container.StopOptions{Timeout: &now})
		},
		"removed": func(t *testing.T, a *harness.Agent, id string) error {
			return a.Docker.Client.ContainerRemove(t.Context(), id, container.RemoveOptions{Force: true})
		},
		"removed with its containers": func(t *testing.T, a *harness.Agent, id string) error {
			of, err := a.ContainersOf("web")
			if err != nil {
				return err
			}
			for _, c := range of {
				if err := a.Docker.Client.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{Force: true}); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t)
			pod := harness.Pod("web", "")
			a.Write("web.yaml", pod)
			first := a.WaitRunning("web")
			before, err := a.Running("web")
			if err != nil {
				t.Fatal(err)
			}
			if err := lose(t, a, before[harness.Sandbox].ID); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, "a new sandbox runs with a new container", harness.Patience, func() error {
				now, err := a.Running("web")
				if err != nil {
					return err
				}
				if len(now) != 2 || now[harness.Sandbox].ID == before[harness.Sandbox].ID || now["c"].ID == before["c"].ID {
					return fmt.Errorf("running: %d containers", len(now))
				}
				return nil
			}, a.Explain)
			p := a.WaitPod("web", "is Ready with the new container", func(p *v1.Pod) bool {
				return harness.Ready(p) && harness.ID(harness.Status(p, "c").ContainerID) != before["c"].ID
			})
			a.WaitExactly(pod)
			if p.UID != first.UID {
				t.Error("the pod's UID changed")
			}
			now, err := a.Running("web")
			if err != nil {
				t.Fatal(err)
			}
			if n := harness.ParseName(now[harness.Sandbox]); n.Attempt != "1" && name == "killed" {
				t.Errorf("sandbox attempt %s, want 1", n.Attempt)
			}
			// What the container shares is the new sandbox's.
			info, err := a.Docker.Client.ContainerInspect(t.Context(), now["c"].ID)
			if err != nil {
				t.Fatal(err)
			}
			if want := "container:" + now[harness.Sandbox].ID; string(info.HostConfig.NetworkMode) != want {
				t.Errorf("network %s, want %s", info.HostConfig.NetworkMode, want)
			}
		})
	}
}

func TestContainerPausedByHandBreaksNothing(t *testing.T) {
	a := start(t)
	pod := harness.Pod("web", "")
	a.Write("web.yaml", pod)
	a.WaitRunning("web")
	running, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerPause(t.Context(), running["c"].ID); err != nil {
		t.Fatal(err)
	}
	other := harness.Pod("other", "")
	a.Write("other.yaml", other)
	a.WaitRunning("other")
	if err := a.Docker.Client.ContainerUnpause(t.Context(), running["c"].ID); err != nil {
		t.Fatal(err)
	}
	a.WaitRunning("web")
	a.Remove("web.yaml")
	a.WaitGone("web")
}

func TestAnEarlierAttemptThatSomebodyStartsIsStopped(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", "trap 'exit 1' TERM; touch /tmp/ready; while :; do sleep 1 & wait $!; done", grace(3), harness.ReadyOnceTouched, func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		// The hook of a container that shares the pod's network could end the newest one.
		c.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"touch", "/tmp/hook"}}}}
	}))
	first := harness.ID(harness.Status(a.WaitRunning("web"), "c").ContainerID)
	if err := a.Docker.Client.ContainerKill(t.Context(), first, "TERM"); err != nil {
		t.Fatal(err)
	}
	ready := func(p *v1.Pod) bool {
		return harness.ID(harness.Status(p, "c").ContainerID) != first && harness.Ready(p)
	}
	was := a.WaitPod("web", "has been restarted", ready)
	if err := a.Docker.Client.ContainerStart(t.Context(), first, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the earlier attempt is stopped again", harness.Patience, func() error {
		info, err := a.Docker.Client.ContainerInspect(t.Context(), first)
		if err == nil && info.State.Running {
			err = errors.New("it runs")
		}
		return err
	}, a.Explain)
	if _, err := a.Docker.Client.ContainerStatPath(t.Context(), first, "/tmp/hook"); err == nil {
		t.Error("its preStop hook was run")
	}
	now := a.WaitPod("web", "is as it was", ready)
	if was, now := harness.Status(was, "c"), harness.Status(now, "c"); was.ContainerID != now.ContainerID || now.RestartCount != 1 || !now.Ready {
		t.Errorf("the newest attempt was %+v, is %+v", was, now)
	}
}
