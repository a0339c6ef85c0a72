package integration

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// ample is a deadline, in seconds, before which a pod has started even on a busy
// machine.
const ample = 45

func deadline(seconds int64) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = &seconds }
}

// checkDeadline waits for the pod to fail because of its deadline, and checks that
// its container was stopped then, by SIGTERM, and not before.
func checkDeadline(t *testing.T, a *harness.Agent, seen *harness.Events, pod string, after time.Duration) *v1.Pod {
	t.Helper()
	p := a.WaitPod(pod, "has failed and its container has ended", func(p *v1.Pod) bool {
		return p.Status.Phase == v1.PodFailed && harness.Status(p, "c").State.Terminated != nil
	})
	if p.Status.Reason != "DeadlineExceeded" || p.Status.Message != "Pod was active on the node longer than the specified deadline" {
		t.Errorf("reason %q, message %q", p.Status.Reason, p.Status.Message)
	}
	kill := seen.Wait(1, "kill", pod, "c", harness.Patience)[0]
	late := kill.At.Sub(p.Status.StartTime.Add(after))
	t.Logf("%s: signal %s %v after the deadline", pod, kill.Signal, late.Round(time.Millisecond))
	if kill.Signal != "15" || late < 0 {
		t.Errorf("%s: signal %s %v after the deadline", pod, kill.Signal, late)
	}
	return p
}

func TestPodIsStoppedAtItsDeadlineForGood(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	a.Write("web.yaml", harness.Pod("web", "", deadline(ample), grace(5)))
	a.Write("quick.yaml", harness.Pod("quick", "exit 0", deadline(600), policy(v1.RestartPolicyNever)))
	a.WaitRunning("web")
	a.WaitPhase("quick", v1.PodSucceeded)
	checkDeadline(t, a, seen, "web", ample*time.Second)

	// A later agent does not start it again either, or report anything else.
	a.Kill()
	a.Start()
	checkDeadline(t, a, seen, "web", ample*time.Second)
	if p := a.WaitPhase("quick", v1.PodSucceeded); p.Status.Reason != "" {
		t.Errorf("pod that was done in time: reason %q", p.Status.Reason)
	}
	if n := len(seen.Of("start", "web", "c")); n != 1 {
		t.Errorf("started %d times", n)
	}
}

func TestDeadlineCountsOverARestartOfTheAgent(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	a.Write("web.yaml", harness.Pod("web", "", deadline(ample), grace(5)))
	before := a.WaitRunning("web")
	a.Kill()
	time.Sleep(time.Until(before.Status.StartTime.Add(ample * time.Second)))
	began := time.Now()
	a.Start()
	after := checkDeadline(t, a, seen, "web", ample*time.Second)
	if kill := seen.Of("kill", "web", "c")[0]; kill.At.Sub(began) >= ample*time.Second {
		t.Errorf("stopped %v after the agent's start: it counted anew", kill.At.Sub(began))
	}
	if !after.Status.StartTime.Equal(before.Status.StartTime) {
		t.Errorf("start time %v, was %v", after.Status.StartTime, before.Status.StartTime)
	}
}

func TestDeadlineDoesNotWaitForAHook(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	a.Write("web.yaml", harness.Pod("web", "", deadline(ample), grace(5), func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: run("sleep 1000")}
	}))
	checkDeadline(t, a, seen, "web", ample*time.Second)
}
