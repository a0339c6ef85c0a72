package integration

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// ownDaemon starts an agent on a daemon that the test may kill.
func ownDaemon(t *testing.T, cfg harness.DockerdConfig) *harness.Agent {
	t.Helper()
	t.Parallel()
	return harness.StartAgent(t, harness.AgentConfig{Docker: harness.StartDockerd(t, cfg)})
}

// policyPods are one pod of each restart policy, all running until told to stop.
func policyPods() []*v1.Pod {
	return []*v1.Pod{
		harness.Pod("always", "", policy(v1.RestartPolicyAlways)),
		harness.Pod("onfailure", "while :; do sleep 1; done", policy(v1.RestartPolicyOnFailure)),
		harness.Pod("never", "while :; do sleep 1; done", policy(v1.RestartPolicyNever)),
		harness.Pod("done", "exit 0", policy(v1.RestartPolicyOnFailure)),
	}
}

func startPolicyPods(t *testing.T, a *harness.Agent) {
	t.Helper()
	for _, p := range policyPods() {
		a.Write(p.Name+".yaml", p)
	}
	for _, name := range []string{"always", "onfailure", "never"} {
		a.WaitRunning(name)
	}
	a.WaitPhase("done", v1.PodSucceeded)
}

// checkPolicies waits until each pod is in the state that its restart policy
// prescribes after all containers have died.
func checkPolicies(t *testing.T, a *harness.Agent) {
	t.Helper()
	for _, name := range []string{"always", "onfailure"} {
		a.WaitPodFor(2*harness.Patience, name, "runs again", func(p *v1.Pod) bool {
			return harness.Ready(p) && harness.Status(p, "c").RestartCount >= 1
		})
	}
	a.WaitPhase("never", v1.PodFailed)
	a.WaitPhase("done", v1.PodSucceeded)
	pods := policyPods()
	a.WaitExactly(pods[0], pods[1])
	late := harness.Pod("late", "")
	a.Write("late.yaml", late)
	a.WaitRunning("late")
	a.CheckExactly(pods[0], pods[1], late)
}

func TestDockerRestartedWithoutLiveRestore(t *testing.T) {
	a := ownDaemon(t, harness.DockerdConfig{})
	startPolicyPods(t, a)
	a.Docker.Stop()
	if _, err := a.Pods(); err != nil {
		t.Errorf("the agent does not answer while Docker is down: %v", err)
	}
	if err := a.Docker.Start(); err != nil {
		t.Fatal(err)
	}
	checkPolicies(t, a)
}

func TestDockerKilledWithoutLiveRestore(t *testing.T) {
	a := ownDaemon(t, harness.DockerdConfig{})
	startPolicyPods(t, a)
	a.Docker.Kill()
	if err := a.Docker.Start(); err != nil {
		t.Fatal(err)
	}
	checkPolicies(t, a)
}

func TestDockerRestartedWhileNoAgentRan(t *testing.T) {
	a := ownDaemon(t, harness.DockerdConfig{})
	startPolicyPods(t, a)
	a.Kill()
	a.Docker.Stop()
	if err := a.Docker.Start(); err != nil {
		t.Fatal(err)
	}
	a.Start()
	checkPolicies(t, a)
}

// pid of the pod's container c.
func pid(t *testing.T, a *harness.Agent, pod string) int {
	t.Helper()
	running, err := a.Running(pod)
	if err != nil {
		t.Fatal(err)
	}
	info, err := a.Docker.Client.ContainerInspect(t.Context(), running["c"].ID)
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Pid
}

func TestDockerKilledWithLiveRestoreWhileContainersDie(t *testing.T) {
	a := ownDaemon(t, harness.DockerdConfig{LiveRestore: true})
	keep := harness.Pod("keep", "")
	a.Write("keep.yaml", keep)
	a.Write("dies.yaml", harness.Pod("dies", ""))
	a.Write("never.yaml", harness.Pod("never", "", policy(v1.RestartPolicyNever)))
	a.Write("nobox.yaml", harness.Pod("nobox", ""))
	for _, name := range []string{"keep", "dies", "never", "nobox"} {
		a.WaitRunning(name)
	}
	kept := harness.Status(a.Pod("keep"), "c").ContainerID
	pids := []int{pid(t, a, "dies"), pid(t, a, "never")}
	running, err := a.Running("nobox")
	if err != nil {
		t.Fatal(err)
	}
	info, err := a.Docker.Client.ContainerInspect(t.Context(), running[harness.Sandbox].ID)
	if err != nil {
		t.Fatal(err)
	}
	pids = append(pids, info.State.Pid)

	a.Docker.Kill()
	for _, p := range pids {
		if err := unix.Kill(p, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Docker.Start(); err != nil {
		t.Fatal(err)
	}
	a.WaitPod("dies", "is restarted", restarted)
	a.WaitPhase("never", v1.PodFailed)
	a.WaitPod("nobox", "runs in a new sandbox", func(p *v1.Pod) bool {
		now, err := a.Running("nobox")
		return err == nil && harness.Ready(p) && len(now) == 2 && now[harness.Sandbox].ID != running[harness.Sandbox].ID
	})
	p := a.WaitRunning("keep")
	if s := harness.Status(p, "c"); s.ContainerID != kept || s.RestartCount != 0 {
		t.Errorf("the pod whose containers lived on was touched: %+v", s)
	}
	a.WaitExactly(keep, harness.Pod("dies", ""), harness.Pod("nobox", ""))
}

func TestDockerKilledWithLiveRestoreTouchesNoPod(t *testing.T) {
	a := ownDaemon(t, harness.DockerdConfig{LiveRestore: true})
	var pods []*v1.Pod
	for i := range 4 {
		pods = append(pods, harness.Pod(fmt.Sprintf("p%d", i), ""))
	}
	a.Write("pods.yaml", pods...)
	for _, p := range pods {
		a.WaitRunning(p.Name)
	}
	before := runningIDs(t, a)
	for range 3 {
		a.Docker.Kill()
		time.Sleep(1500 * time.Millisecond) // long enough for relists that fail
		if err := a.Docker.Start(); err != nil {
			t.Fatal(err)
		}
	}
	late := harness.Pod("late", "")
	a.Write("late.yaml", late)
	a.WaitRunning("late")
	checkStillRunning(t, a, before)
	a.CheckExactly(append(pods, late)...)
	for _, p := range pods {
		if n := harness.Status(a.WaitRunning(p.Name), "c").RestartCount; n != 0 {
			t.Errorf("pod %s: restartCount %d", p.Name, n)
		}
	}
}

func TestAgentStartedBeforeDocker(t *testing.T) {
	t.Parallel()
	d := harness.StartDockerd(t, harness.DockerdConfig{})
	a := harness.NewAgent(t, harness.AgentConfig{Docker: d})
	a.Write("web.yaml", harness.Pod("web", ""))
	d.Kill()
	a.Launch()
	time.Sleep(2 * time.Second) // it finds no Docker, and may say so in any way except by giving up
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	a.WaitRunning("web")
}
