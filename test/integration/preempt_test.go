package integration

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// Nobody brings a static pod a second time: on a node that is full it waits, also over a restart of the agent.
func TestStaticPodWaitsForRoom(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{"maxPods": 1}})
	waits := func(p *v1.Pod) bool {
		return p.Status.Phase == v1.PodPending && p.Status.Reason == podstatus.WaitingForRoom
	}
	a.Write("first.yaml", harness.Pod("first", "", grace(1)))
	a.WaitRunning("first")
	priority := func(n int32) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.Priority = &n } }
	a.Write("second.yaml", harness.Pod("second", "", grace(1), priority(1)))
	a.WaitPod("second", "waits for room", waits)
	a.Kill()
	a.Start()
	a.WaitPod("second", "waits for room", waits)
	a.WaitRunning("first")
	a.Remove("first.yaml")
	if p := a.WaitRunning("second"); p.Status.Reason != "" || p.Status.Message != "" {
		t.Errorf("it runs and says %q, %q", p.Status.Reason, p.Status.Message)
	}
	// It gives way to a more important one, and waits again.
	a.Write("third.yaml", harness.Pod("third", "", grace(1), priority(2)))
	a.WaitRunning("third")
	a.WaitPod("second", "waits for room", waits)
	a.Remove("third.yaml")
	a.WaitRunning("second")
}
