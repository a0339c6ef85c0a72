package e2e

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
	"github.com/mini-kubelet/mini-kubelet/test/logindtest"
)

// TestWhatAShutdownLeavesInACluster shuts the machine down by a real logind, whose last order
// nobody carries out: the node is not ready, a pod of the API server has failed for good, and a
// static one, which nobody makes anew, starts with the next agent.
func TestWhatAShutdownLeavesInACluster(t *testing.T) {
	t.Parallel()
	logind := logindtest.Start(t, 2*time.Minute)
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{
		Env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + logind.Address}, Config: map[string]any{"shutdownGracePeriod": "60s"},
	})
	ns := n.Namespace()
	static := harness.Pod("s", "sleep 1000", quick)
	static.Namespace = ns
	n.Write("s.yaml", static)
	mirror := n.AwaitReady(ns, n.Name("s"))
	pod := n.Create(ns, harness.Pod("p", "sleep 1000", quick))
	n.AwaitReady(ns, pod.Name)
	logind.PowerOff()
	ended := func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed && p.Status.Reason == "Terminated" }
	n.Await(ns, pod.Name, "was ended by the shutdown", ended)
	n.Await(ns, mirror.Name, "was ended by the shutdown", ended)
	harness.Eventually(t, "the node is not ready", harness.Patience, func() error {
		return nodeSays(t, n, v1.ConditionFalse, "node is shutting down")
	}, n.Explain)
	if unit := <-logind.Units; unit != "poweroff.target" {
		t.Errorf("logind has %s started", unit)
	}
	n.Kill() // the machine is down, and comes up again: nobody shuts it down now
	logind.CallOff()
	n.Start()
	again := n.AwaitReady(ns, mirror.Name)
	if again.UID != mirror.UID {
		t.Errorf("the mirror pod is another one: %s, and was %s", again.UID, mirror.UID)
	}
	n.WaitReady()
	if p := n.Await(ns, pod.Name, "is there", func(*v1.Pod) bool { return true }); p.Status.Phase != v1.PodFailed {
		t.Errorf("the pod of the API server is %s", p.Status.Phase)
	}
}
