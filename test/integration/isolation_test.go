package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
	"github.com/mini-kubelet/mini-kubelet/test/treetest"
)

func TestTwoAgentsOnOneDockerDoNotTouchEachOther(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{})
	b := harness.StartAgent(t, harness.AgentConfig{})
	pod := harness.Pod("web", "") // the same name on both
	a.Write("web.yaml", pod)
	b.Write("web.yaml", pod)
	a.WaitRunning("web")
	b.WaitRunning("web")
	before := runningIDs(t, b)
	a.Kill()
	a.Start() // what it finds at start, and does not know, is not its own
	kill(t, a, "web")
	a.WaitPod("web", "is repaired", restarted)
	late := harness.Pod("late", "")
	a.Write("late.yaml", late)
	a.WaitRunning("late")
	a.Remove("web.yaml")
	a.WaitGone("web")
	a.CheckExactly(late)
	b.CheckExactly(pod)
	checkStillRunning(t, b, before)
	if p := b.Pod("late"); p != nil {
		t.Error("one agent shows the other's pod")
	}
	if n := harness.Status(b.WaitRunning("web"), "c").RestartCount; n != 0 {
		t.Errorf("the other agent's container was restarted %d times", n)
	}
}

func TestASecondAgentOnTheSameStateIsRefused(t *testing.T) {
	a := start(t)
	web := harness.Pod("web", "")
	a.Write("web.yaml", web)
	a.WaitRunning("web")
	_, stderr, err := a.Run(a.Flags()...)
	if err == nil {
		t.Fatal("a second agent started on the same root directory")
	}
	if !strings.Contains(stderr, "another mini-kubelet") {
		t.Errorf("it does not say why:\n%s", stderr)
	}
	a.CheckExactly(web)
}

func TestResetRemovesAllThatThisAgentMadeAndNothingElse(t *testing.T) {
	t.Parallel()
	d := harness.Docker(t)
	a := harness.StartAgent(t, harness.AgentConfig{})
	other := harness.StartAgent(t, harness.AgentConfig{})
	ctx := t.Context()

	foreign, err := d.Client.ContainerCreate(ctx, &container.Config{Image: harness.Busybox, Cmd: []string{"sleep", "1000"},
		Labels: map[string]string{"mine": "yes"}}, nil, nil, nil, "foreign-"+a.Node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.Client.ContainerRemove(context.Background(), foreign.ID, container.RemoveOptions{Force: true})
	})
	if err := d.Client.ContainerStart(ctx, foreign.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	image := "test.local/foreign-" + a.Node + ":1"
	d.LoadBusybox(t, image)
	if _, err := d.Client.VolumeCreate(ctx, volume.CreateOptions{Name: "foreign-" + a.Node}); err != nil {
		t.Fatal(err)
	}

	a.Write("pods.yaml", harness.Pod("one", ""), harness.Pod("two", slowToStop(1), grace(10)), harness.Pod("dead", "exit 0", policy("Never")))
	otherPod := harness.Pod("other", "")
	other.Write("other.yaml", otherPod)
	a.WaitRunning("one")
	a.WaitRunning("two")
	a.WaitPhase("dead", "Succeeded")
	other.WaitRunning("other")
	a.Interrupt()

	stdout, stderr, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...)
	t.Logf("reset said:\n%s%s", stdout, stderr)
	if err != nil {
		t.Fatalf("reset: %v", err)
	}
	if own, err := a.Containers(); err != nil || len(own) > 0 {
		t.Errorf("%d containers are left (%v)\n%s", len(own), err, a.Explain())
	}
	if mounts, err := harness.MountsBelow(a.Dir); err != nil || len(mounts) > 0 {
		t.Errorf("mounts are left: %v (%v)", mounts, err)
	}
	for _, f := range harness.Files(a.Dir) {
		switch {
		case f == "kubelet.yaml", f == "agent.log", f == "cgroup-root", strings.HasPrefix(f, "manifests/"):
		default:
			t.Errorf("file %s is left", f)
		}
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*" + a.CgroupRoot() + "/kubepods"); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	other.CheckExactly(otherPod)
	if n := harness.Status(other.WaitRunning("other"), "c").RestartCount; n != 0 {
		t.Errorf("the other agent's pod was restarted %d times", n)
	}
	info, err := d.Client.ContainerInspect(ctx, foreign.ID)
	if err != nil || !info.State.Running {
		t.Errorf("the foreign container was touched: %v", err)
	}
	if _, err := d.Client.ImageInspect(ctx, image); err != nil {
		t.Errorf("a foreign image is gone: %v", err)
	}
	if _, err := d.Client.VolumeInspect(ctx, "foreign-"+a.Node); err != nil {
		t.Errorf("a foreign volume is gone: %v", err)
	}

	// Resetting twice is as good as once, and the agent starts afresh afterwards.
	if stdout, stderr, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...); err != nil || !strings.Contains(stdout, "found no state of an agent") {
		t.Errorf("a second reset: %v\n%s%s", err, stdout, stderr)
	}
	a.Start()
	a.WaitRunning("one")
}

// Somebody has mounted something in the directories that reset removes: nothing in it is
// touched, and if the whole directory is the agent's, the mount is named.
func TestResetRemovesNothingThatIsMounted(t *testing.T) {
	a := start(t)
	a.Write("pod.yaml", harness.Pod("pod", ""))
	a.WaitRunning("pod")
	a.Interrupt()
	precious := t.TempDir()
	if err := os.WriteFile(filepath.Join(precious, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	reset := append([]string{"reset", "--yes"}, a.Flags()...)
	for dir, whole := range map[string]bool{"root/mini-kubelet": true, "shim/sandbox": false, "shim/logs": false, "shim/network": false} {
		at := filepath.Join(a.Dir, dir, "mounted")
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		unmount := treetest.Bind(t, precious, at)
		if _, stderr, err := a.Run(reset...); (err != nil) != whole || strings.Contains(stderr, at) != whole {
			t.Errorf("reset with a mount at %s: %v\n%s", at, err, stderr)
		}
		if _, err := os.Stat(filepath.Join(precious, "f")); err != nil {
			t.Fatalf("reset removed what is mounted at %s: %v", at, err)
		}
		unmount()
		if err := os.RemoveAll(at); err != nil {
			t.Fatal(err)
		}
	}
	if _, stderr, err := a.Run(reset...); err != nil {
		t.Errorf("reset when nothing is in the way: %v\n%s", err, stderr)
	}
}

func TestResetIsRefusedWhileTheAgentRuns(t *testing.T) {
	a := start(t)
	web := harness.Pod("web", "")
	a.Write("web.yaml", web)
	a.WaitRunning("web")
	if _, stderr, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...); err == nil {
		t.Errorf("reset went ahead under a running agent\n%s", stderr)
	}
	a.CheckExactly(web)
}

func TestSeccompDefaultIsTheProfileOfPodsThatNameNone(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{"seccompDefault": true}})
	mode := func(want string) string { return "grep -q 'Seccomp:[[:space:]]*" + want + "$' /proc/self/status" }
	unconfined := func(p *v1.Pod) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeUnconfined}}
	}
	a.Write("none.yaml", harness.Pod("none", mode("2"), policy(v1.RestartPolicyNever)))
	a.Write("own.yaml", harness.Pod("own", mode("0"), policy(v1.RestartPolicyNever), unconfined))
	for _, name := range []string{"none", "own"} {
		a.WaitPod(name, "has ended", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded })
	}
}
