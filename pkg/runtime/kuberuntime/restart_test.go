package kuberuntime

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

func TestRestarts(t *testing.T) {
	own := func(p v1.ContainerRestartPolicy, rules ...v1.ContainerRestartRule) func(*v1.Container) {
		return func(c *v1.Container) { c.RestartPolicy, c.RestartPolicyRules = &p, rules }
	}
	on := func(op v1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) v1.ContainerRestartRule {
		return v1.ContainerRestartRule{Action: v1.ContainerRestartRuleActionRestart, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}
	}
	for name, tc := range map[string]struct {
		policy v1.RestartPolicy
		init   bool
		own    func(*v1.Container)
		code   int32
		want   bool
	}{
		"Always, well":          {v1.RestartPolicyAlways, false, nil, 0, true},
		"Always, failed":        {v1.RestartPolicyAlways, false, nil, 1, true},
		"OnFailure, well":       {v1.RestartPolicyOnFailure, false, nil, 0, false},
		"OnFailure, failed":     {v1.RestartPolicyOnFailure, false, nil, 1, true},
		"Never, failed":         {v1.RestartPolicyNever, false, nil, 1, false},
		"init, Always, well":    {v1.RestartPolicyAlways, true, nil, 0, false},
		"init, Always, failed":  {v1.RestartPolicyAlways, true, nil, 1, true},
		"init, Never, failed":   {v1.RestartPolicyNever, true, nil, 1, false},
		"sidecar, Never, well":  {v1.RestartPolicyNever, true, own(v1.ContainerRestartPolicyAlways), 0, true},
		"own Never":             {v1.RestartPolicyAlways, false, own(v1.ContainerRestartPolicyNever), 1, false},
		"own OnFailure, well":   {v1.RestartPolicyAlways, false, own(v1.ContainerRestartPolicyOnFailure), 0, false},
		"rule meets":            {v1.RestartPolicyNever, false, own(v1.ContainerRestartPolicyNever, on(v1.ContainerRestartRuleOnExitCodesOpIn, 42)), 42, true},
		"rule does not meet":    {v1.RestartPolicyNever, false, own(v1.ContainerRestartPolicyNever, on(v1.ContainerRestartRuleOnExitCodesOpIn, 42)), 41, false},
		"NotIn meets":           {v1.RestartPolicyNever, false, own(v1.ContainerRestartPolicyNever, on(v1.ContainerRestartRuleOnExitCodesOpNotIn, 42)), 41, true},
		"NotIn does not meet":   {v1.RestartPolicyNever, false, own(v1.ContainerRestartPolicyNever, on(v1.ContainerRestartRuleOnExitCodesOpNotIn, 42)), 42, false},
		"second rule meets":     {v1.RestartPolicyNever, false, own(v1.ContainerRestartPolicyNever, on(v1.ContainerRestartRuleOnExitCodesOpIn, 1), on(v1.ContainerRestartRuleOnExitCodesOpIn, 2, 3)), 3, true},
		"no rule meets, policy": {v1.RestartPolicyNever, false, own(v1.ContainerRestartPolicyOnFailure, on(v1.ContainerRestartRuleOnExitCodesOpIn, 0)), 3, true},
		"rule meets a success":  {v1.RestartPolicyNever, false, own(v1.ContainerRestartPolicyOnFailure, on(v1.ContainerRestartRuleOnExitCodesOpIn, 0)), 0, true},
		"rules need a policy": {v1.RestartPolicyNever, false, func(c *v1.Container) {
			c.RestartPolicyRules = []v1.ContainerRestartRule{on(v1.ContainerRestartRuleOnExitCodesOpIn, 1)}
		}, 1, false},
		"rule restarts all":       {v1.RestartPolicyNever, false, own(v1.ContainerRestartPolicyNever, v1.ContainerRestartRule{Action: v1.ContainerRestartRuleActionRestartAllContainers, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{1}}}), 1, true},
		"init, own Never, failed": {v1.RestartPolicyAlways, true, own(v1.ContainerRestartPolicyNever), 1, false},
		"init, rule meets":        {v1.RestartPolicyNever, true, own(v1.ContainerRestartPolicyNever, on(v1.ContainerRestartRuleOnExitCodesOpIn, 7)), 7, true},
		"no policy, old behavior": {"", false, nil, 0, true},
	} {
		c := v1.Container{Name: "c"}
		if tc.own != nil {
			tc.own(&c)
		}
		pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: tc.policy}}
		if tc.init {
			pod.Spec.InitContainers = []v1.Container{c}
		} else {
			pod.Spec.Containers = []v1.Container{c}
		}
		if got := Restarts(pod, &c, tc.code); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

var crasher = &v1.Container{Name: "c", Image: "bad"}

// crashes runs a container that ends at once, n times, and returns the waits
// before each restart.
func crashes(b *backOffs, key string, n int, now time.Time, ran time.Duration) (waits []time.Duration, end time.Time) {
	ended := &actual.ContainerStatus{StartedAt: now, FinishedAt: now.Add(ran)}
	now = ended.FinishedAt
	for range n {
		wait := b.left(key, crasher, ended, now)
		waits = append(waits, wait)
		now = now.Add(wait)
		b.restarted(key, crasher, ended, now)
		ended = &actual.ContainerStatus{RestartCount: ended.RestartCount + 1, StartedAt: now, FinishedAt: now.Add(ran)}
		now = ended.FinishedAt
	}
	return waits, now
}

func TestCrashLoopDoublesFromTenSecondsToTheMaximum(t *testing.T) {
	b := newBackOffs(5 * time.Minute)
	waits, _ := crashes(b, "u/c", 8, time.Unix(1000, 0), 0)
	want := []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second, 300 * time.Second}
	for i := range want {
		if waits[i] != want[i] {
			t.Fatalf("waits %v, want %v", waits, want)
		}
	}
}

func TestTenMinutesOfHealthAreForgiveness(t *testing.T) {
	b := newBackOffs(5 * time.Minute)
	_, now := crashes(b, "u/c", 5, time.Unix(1000, 0), 0)
	healthy := &actual.ContainerStatus{RestartCount: 5, StartedAt: now, FinishedAt: now.Add(11 * time.Minute)}
	if wait := b.left("u/c", crasher, healthy, healthy.FinishedAt); wait != 0 {
		t.Errorf("waits %v after 11 minutes of health", wait)
	}
	b.restarted("u/c", crasher, healthy, healthy.FinishedAt)
	again := &actual.ContainerStatus{RestartCount: 6, StartedAt: healthy.FinishedAt, FinishedAt: healthy.FinishedAt}
	if wait := b.left("u/c", crasher, again, again.FinishedAt); wait != firstBackOff {
		t.Errorf("waits %v after the next crash, want it to begin anew with %v", wait, firstBackOff)
	}
}

func TestARestartOfTheAgentGivesNoFreeStart(t *testing.T) {
	for restarts, want := range map[int32]time.Duration{0: 0, 1: 10 * time.Second, 3: 40 * time.Second, 100: 5 * time.Minute} {
		now := time.Unix(1000, 0)
		ended := &actual.ContainerStatus{RestartCount: restarts, StartedAt: now, FinishedAt: now}
		if got := newBackOffs(5*time.Minute).left("u/c", crasher, ended, now); got != want {
			t.Errorf("after %d restarts: %v, want %v", restarts, got, want)
		}
	}
}

func TestAnotherImageOrOtherResourcesBeginAnew(t *testing.T) {
	image, resources := *crasher, *crasher
	image.Image = "good"
	resources.Resources.Limits = v1.ResourceList{"memory": resource.MustParse("1Gi")}
	command := *crasher
	command.Args = []string{"x"}
	now := time.Unix(1000, 0)
	ended := &actual.ContainerStatus{RestartCount: 5, StartedAt: now, FinishedAt: now, Hash: hashContainer(crasher)}
	for name, tc := range map[string]struct {
		c     *v1.Container
		known bool // by this agent
		want  time.Duration
	}{
		"the same":                            {crasher, true, 10 * time.Second},
		"image":                               {&image, true, 0},
		"resources":                           {&resources, true, 0},
		"what does not count":                 {&command, true, 10 * time.Second},
		"the same, after the agent's restart": {crasher, false, 160 * time.Second},
		"image, after the agent's restart":    {&image, false, 0},
	} {
		b := newBackOffs(5 * time.Minute)
		if tc.known {
			b.restarted("u/c", crasher, &actual.ContainerStatus{StartedAt: now, FinishedAt: now}, now)
		}
		if got := b.left("u/c", tc.c, ended, now); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		b.restarted("u/c", tc.c, ended, now)
		if got := b.current("u/c", tc.c, ended); tc.want == 0 && got != firstBackOff {
			t.Errorf("%s: then waits %v", name, got)
		}
	}
}

func TestForgetIsForOnePod(t *testing.T) {
	b := newBackOffs(time.Minute)
	now := time.Unix(1000, 0)
	for _, uid := range []types.UID{"u", "u2"} {
		b.restarted(backOffKey(uid, "c"), crasher, &actual.ContainerStatus{StartedAt: now, FinishedAt: now}, now)
	}
	b.forget("u")
	if len(b.entries) != 1 {
		t.Errorf("left: %v", b.entries)
	}
}
