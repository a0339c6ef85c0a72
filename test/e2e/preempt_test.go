package e2e

import (
	"errors"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// A critical static pod on a full node takes the place of the pod whose end costs least.
func TestCriticalPodPreempts(t *testing.T) {
	t.Parallel()
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{Config: map[string]any{"maxPods": 2}})
	ns := n.Namespace()
	amounts := v1.ResourceList{v1.ResourceCPU: *ptr.To(quantity("10m")), v1.ResourceMemory: *ptr.To(quantity("32Mi"))}
	n.Create(ns, harness.Pod("guaranteed", "", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: amounts, Limits: amounts}
	}))
	n.Create(ns, harness.Pod("besteffort", "", quick))
	n.AwaitReady(ns, "guaranteed")
	n.AwaitReady(ns, "besteffort")

	static := harness.Pod("critical", "", quick)
	static.Namespace = ns
	n.Write("critical.yaml", static)
	n.AwaitReady(ns, n.Name("critical"))
	victim := n.Await(ns, "besteffort", "is preempted", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed })
	if victim.Status.Reason != "Preempting" || victim.Status.Message != "Preempted in order to admit critical pod" {
		t.Errorf("the victim's status: %s: %s", victim.Status.Reason, victim.Status.Message)
	}
	if c := conditionOf(victim, v1.DisruptionTarget); c == nil || c.Status != v1.ConditionTrue || c.Reason != v1.PodReasonTerminationByKubelet || c.LastTransitionTime.IsZero() {
		t.Errorf("condition %+v", c)
	}
	harness.Eventually(t, "the victim has its event", harness.Patience, func() error {
		if out := n.MustKubectl(ns, "describe", "pod", "besteffort"); !strings.Contains(out, "Preempting") {
			return errors.New(out)
		}
		return nil
	}, n.Explain)
	if p := n.AwaitReady(ns, "guaranteed"); harness.Status(p, "c").RestartCount != 0 {
		t.Error("the Guaranteed pod was restarted")
	}
	metrics, err := n.Get("/metrics")
	if err != nil || !strings.Contains(string(metrics), `kubelet_preemptions{preemption_signal="pods"} 1`) {
		t.Errorf("the preemption is not counted: %v", err)
	}
	// What is ready stays so: an ordinary pod finds no room, and preempts nobody.
	n.Create(ns, harness.Pod("late", "", quick))
	if p := n.Await(ns, "late", "is rejected", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed }); p.Status.Reason != "OutOfpods" {
		t.Errorf("late: %s: %s", p.Status.Reason, p.Status.Message)
	}
}
