package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestTeachingMode goes through the start of a pod step by step: paused means that nothing new happens in Docker.
func TestTeachingMode(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{Args: []string{"--teach"}})
	teach := func(args ...string) string {
		t.Helper()
		out, errOut, err := a.Run(append([]string{"teach", "--root-dir", filepath.Join(a.Dir, "root")}, args...)...)
		if err != nil {
			t.Fatalf("teach %q: %v %s", args, err, errOut)
		}
		return out
	}
	containers := func() (sandboxes, others int) { t.Helper(); return sandboxesAndOthers(t, a) }
	waits := func(what string) {
		t.Helper()
		harness.Eventually(t, what+" waits at its gate", harness.Patience, func() error {
			if out := teach(); !strings.Contains(out, what) {
				return fmt.Errorf("%s", out)
			}
			return nil
		}, a.Explain)
	}
	// stepTo lets steps go on until that one waits, and checks after each that nothing is there that should not be.
	stepTo := func(what string, sandboxes, others int) {
		t.Helper()
		harness.Eventually(t, what+" waits at its gate", harness.Patience, func() error {
			if s, o := containers(); s > sandboxes || o > others {
				t.Fatalf("%d sandboxes and %d other containers before %s: more than %d and %d\n%s", s, o, what, sandboxes, others, a.Log())
			}
			out := teach()
			if strings.Contains(out, what) {
				return nil
			}
			if !strings.Contains(out, "; 0 waiting") { // else it works
				teach("step")
			}
			return fmt.Errorf("%s", out)
		}, a.Explain)
	}
	a.Write("web.yaml", harness.Pod("web", "", impatient))
	waits("ADD " + a.Name("web"))
	if s, o := containers(); s+o != 0 {
		t.Fatalf("paused, but %d sandboxes and %d containers are there", s, o)
	}
	stepTo("RunPodSandbox", 0, 0)
	stepTo("StartContainer", 1, 1)
	if s, o := containers(); s != 1 || o != 1 {
		t.Errorf("before its start: %d sandboxes and %d containers, want one of each", s, o)
	}
	if _, err := a.Get("/healthz"); err != nil {
		t.Errorf("who is held is ill: %v", err)
	}
	if out := teach("run"); !strings.HasPrefix(out, "running; 0 waiting") {
		t.Errorf("teach run: %s", out)
	}
	a.WaitPod("web", "Ready", harness.Ready)

	// One step of one pod: the change of another waits meanwhile.
	teach("pause")
	a.Write("other.yaml", harness.Pod("other", ""))
	waits("ADD " + a.Name("other"))
	for _, bad := range [][]string{{"next", "nobody"}, {"next"}, {"slow", "0"}, {"slow", "x"}, {"jump"}, {"step", "2"}} {
		if _, _, err := a.Run(append([]string{"teach", "--root-dir", filepath.Join(a.Dir, "root")}, bad...)...); err == nil {
			t.Errorf("teach %q succeeded", bad)
		}
	}
	teach("slow", "3")
	a.WaitRunning("other")
}

// sandboxesAndOthers counts the containers that an agent has in Docker.
func sandboxesAndOthers(t *testing.T, a *harness.Agent) (sandboxes, others int) {
	t.Helper()
	all, err := a.Containers()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if harness.ParseName(c).Container == "POD" {
			sandboxes++
		} else {
			others++
		}
	}
	return sandboxes, others
}

// impatient gives a container a liveness probe that would kill it if its deadlines went on while it is held.
func impatient(p *v1.Pod) {
	p.Spec.Containers[0].LivenessProbe = &v1.Probe{
		ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}},
		PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 10,
	}
}
