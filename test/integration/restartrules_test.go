package integration

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestContainersHaveRestartPoliciesOfTheirOwn(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	own := func(p v1.ContainerRestartPolicy, rules ...v1.ContainerRestartRule) func(*v1.Pod) {
		return func(pod *v1.Pod) {
			c := &pod.Spec.Containers[0]
			c.RestartPolicy, c.RestartPolicyRules = &p, rules
		}
	}
	on := func(op v1.ContainerRestartRuleOnExitCodesOperator, code int32) v1.ContainerRestartRule {
		return v1.ContainerRestartRule{Action: v1.ContainerRestartRuleActionRestart, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: op, Values: []int32{code}}}
	}
	// It fails with 42 once, and then with 7.
	twice := "echo run >> /diary/log; test -e /diary/again && exit 7; touch /diary/again; exit 42"
	a.Write("rule.yaml", harness.Pod("rule", twice, policy(v1.RestartPolicyNever), give, own(v1.ContainerRestartPolicyNever, on(v1.ContainerRestartRuleOnExitCodesOpIn, 42))))
	p := a.WaitPhase("rule", v1.PodFailed)
	if s := harness.Status(p, "c"); s.RestartCount != 1 || s.State.Terminated == nil || s.State.Terminated.ExitCode != 7 {
		t.Errorf("%+v, want restarted once and ended with 7", s)
	}
	wrote(t, a, read, "run run")

	a.Write("never.yaml", harness.Pod("never", "exit 1", own(v1.ContainerRestartPolicyNever), func(p *v1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, harness.Container("other", ""))
	}))
	p = a.WaitPod("never", "goes on without its first container", func(p *v1.Pod) bool {
		return harness.Status(p, "c").State.Terminated != nil && harness.Status(p, "other").State.Running != nil
	})
	if s := harness.Status(p, "c"); p.Status.Phase != v1.PodRunning || s.RestartCount != 0 {
		t.Errorf("phase %s, %+v", p.Status.Phase, s)
	}
	a.Write("not.yaml", harness.Pod("not", "exit 0", policy(v1.RestartPolicyNever), own(v1.ContainerRestartPolicyNever, on(v1.ContainerRestartRuleOnExitCodesOpNotIn, 5))))
	a.WaitPod("not", "has been restarted", func(p *v1.Pod) bool { return harness.Status(p, "c").RestartCount >= 1 })
}
