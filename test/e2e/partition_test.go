package e2e

import (
	"context"
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestPartition takes the API server away under churn: pods crash and restart,
// static pods come and the agent is killed, and nothing that ran is harmed.
func TestPartition(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, controlplane.Config{ControllerManagerArgs: []string{patientWithNodes}})
	n := harness.StartNode(t, c, harness.AgentConfig{Config: map[string]any{"crashLoopBackOff": map[string]any{"maxContainerRestartPeriod": "1s"}}})
	ns := n.Namespace()
	n.Create(ns, harness.Pod("steady", "sleep 100000", quick))
	n.Create(ns, harness.Pod("crashing", "sleep 2; exit 1", quick))
	n.Create(ns, harness.Pod("ending", "trap 'exit 0' TERM; touch /tmp/ready; while :; do sleep 0.1; done", harness.ReadyOnceTouched, func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
	}))
	steady := n.AwaitReady(ns, "steady")
	ending := n.AwaitReady(ns, "ending")
	before := harness.Status(n.Await(ns, "crashing", "has crashed", func(p *v1.Pod) bool { return harness.Status(p, "c").RestartCount > 0 }), "c").RestartCount

	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := n.Docker.Client.ContainerKill(t.Context(), harness.ID(harness.Status(ending, "c").ContainerID), "TERM"); err != nil {
		t.Fatal(err)
	}
	// A static pod needs no API server.
	static := harness.Pod("s", "sleep 1000", quick)
	static.Namespace = ns
	n.Write("s.yaml", static)
	n.WaitRunning("s")
	locally := func(name string) *v1.Pod {
		list, err := n.Pods()
		if err != nil {
			return nil
		}
		for i := range list.Items {
			if list.Items[i].Name == name {
				return &list.Items[i]
			}
		}
		return nil
	}
	harness.Eventually(t, "the crashing pod goes on being restarted, and the ending one ends", harness.Patience, func() error {
		p, e := locally("crashing"), locally("ending")
		if p == nil || e == nil || harness.Status(p, "c").RestartCount < before+2 || e.Status.Phase != v1.PodSucceeded {
			return fmt.Errorf("crashing %v, ending %v", p != nil, e != nil)
		}
		return nil
	}, n.Explain)

	// An agent that starts with no API server keeps what runs.
	n.Kill()
	n.Start()
	n.WaitRunning("s")
	running, err := n.Running("steady")
	if err != nil {
		t.Fatal(err)
	}
	if id := harness.ID(harness.Status(steady, "c").ContainerID); running["c"].ID != id {
		t.Errorf("steady runs in %q, was %s", running["c"].ID, id)
	}

	if err := c.StartAPIServer(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.AwaitReady(ns, n.Name("s"))
	n.Await(ns, "ending", "is told to have ended", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded })
	now := n.AwaitReady(ns, "steady")
	if a, b := harness.Status(steady, "c"), harness.Status(now, "c"); a.ContainerID != b.ContainerID || b.RestartCount != 0 {
		t.Errorf("steady was restarted: %s, %s, %d restarts", a.ContainerID, b.ContainerID, b.RestartCount)
	}
	for _, cond := range now.Status.Conditions {
		for _, was := range steady.Status.Conditions {
			if cond.Type == was.Type && !cond.LastTransitionTime.Equal(&was.LastTransitionTime) {
				t.Errorf("condition %s changed at %v", cond.Type, cond.LastTransitionTime)
			}
		}
	}
	n.Await(ns, "crashing", "is told to have been restarted", func(p *v1.Pod) bool { return harness.Status(p, "c").RestartCount >= before+2 })
	n.Create(ns, harness.Pod("new", "sleep 1000", quick))
	n.AwaitReady(ns, "new")
	if err := c.Client.CoreV1().Pods(ns).Delete(t.Context(), "steady", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.AwaitGone(ns, "steady")
}
