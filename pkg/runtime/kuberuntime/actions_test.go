package kuberuntime

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// testPod has init containers i1 and i2 and containers c1 and c2.
func testPod(change func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: "u", Name: "p", Namespace: "n"},
		Spec: v1.PodSpec{
			RestartPolicy:  v1.RestartPolicyAlways,
			InitContainers: []v1.Container{{Name: "i1", Image: "x"}, {Name: "i2", Image: "x"}},
			Containers:     []v1.Container{{Name: "c1", Image: "x"}, {Name: "c2", Image: "x"}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

func plain(p *v1.Pod) { p.Spec.InitContainers = nil }

func policy(r v1.RestartPolicy, also ...func(*v1.Pod)) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.RestartPolicy = r
		for _, f := range also {
			f(p)
		}
	}
}

func withSidecar(p *v1.Pod) {
	always := v1.ContainerRestartPolicyAlways
	p.Spec.InitContainers[0].RestartPolicy = &always
}

// ownPolicy gives a container a policy and a rule that restarts it after these codes.
func ownPolicy(name string, own v1.ContainerRestartPolicy, codes ...int32) func(*v1.Pod) {
	return func(p *v1.Pod) {
		c, _ := pods.Container(p, name)
		c.RestartPolicy = &own
		if len(codes) > 0 {
			c.RestartPolicyRules = []v1.ContainerRestartRule{{Action: v1.ContainerRestartRuleActionRestart, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: codes}}}
		}
	}
}

// restartingAll gives a container a rule that restarts all after this code.
func restartingAll(name string, code int32) func(*v1.Pod) {
	return func(p *v1.Pod) {
		ownPolicy(name, v1.ContainerRestartPolicyNever, code)(p)
		c, _ := pods.Container(p, name)
		c.RestartPolicyRules[0].Action = v1.ContainerRestartRuleActionRestartAllContainers
	}
}

// ephemeralAnd is ephemeral with one more change.
func ephemeralAnd(id string, change func(*v1.Pod)) func(*v1.Pod) {
	return func(p *v1.Pod) { ephemeral(id)(p); change(p) }
}

// ephemeral gives the pod ephemeral containers e1 and e2, and e1 this container ID
// in the pod's status.
func ephemeral(id string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		plain(p)
		for _, name := range []string{"e1", "e2"} {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, v1.EphemeralContainer{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: name}})
		}
		p.Status.EphemeralContainerStatuses = []v1.ContainerStatus{{Name: "e1", ContainerID: id}}
	}
}

func sidecarsOnly(p *v1.Pod) {
	always := v1.ContainerRestartPolicyAlways
	for i := range p.Spec.InitContainers {
		p.Spec.InitContainers[i].RestartPolicy = &always
	}
}

// sandbox is the status of one, number attempt.
func sandbox(attempt uint32, ready bool) *cri.PodSandboxStatus {
	s := &cri.PodSandboxStatus{
		Id: fmt.Sprintf("s%d", attempt), Metadata: &cri.PodSandboxMetadata{Attempt: attempt},
		State: cri.PodSandboxState_SANDBOX_NOTREADY, Network: &cri.PodSandboxNetworkStatus{},
	}
	if ready {
		s.State, s.Network.Ip = cri.PodSandboxState_SANDBOX_READY, "10.0.0.1"
	}
	return s
}

// observed is a pod whose containers are written "c1=running", "c1=exited:3",
// newest first, all in the newest sandbox.
func observed(sandboxes []*cri.PodSandboxStatus, containers ...string) *actual.PodStatus {
	st := &actual.PodStatus{UID: "u", Sandboxes: sandboxes}
	for _, text := range containers {
		name, state, _ := strings.Cut(text, "=")
		state, code, _ := strings.Cut(state, ":")
		state, in, _ := strings.Cut(state, "@")
		c := &actual.ContainerStatus{ID: actual.ContainerID{Runtime: "docker", ID: name}, Name: name, State: actual.State(state), Hash: hashContainer(&v1.Container{Name: name, Image: "x"}), SandboxID: in}
		if in == "" && len(sandboxes) > 0 {
			c.SandboxID = sandboxes[0].Id
		}
		if code != "" {
			fmt.Sscan(code, &c.ExitCode)
		}
		st.Containers = append(st.Containers, c)
	}
	return st
}

func one(attempt uint32, ready bool) []*cri.PodSandboxStatus {
	return []*cri.PodSandboxStatus{sandbox(attempt, ready)}
}

// said writes actions down: "pod" (kill it), "sandbox 1", "kill c1", "init i1", "start c1".
func said(a actions) string {
	var words []string
	if a.killPod {
		words = append(words, "pod")
	}
	if a.createSandbox {
		words = append(words, fmt.Sprintf("sandbox %d", a.attempt))
	}
	for _, s := range a.reset {
		words = append(words, "reset "+s.Name)
	}
	for _, k := range a.kill {
		words = append(words, "kill "+k.status.Name)
	}
	for _, s := range a.strays {
		words = append(words, "stray "+s.Name)
	}
	for _, c := range a.init {
		words = append(words, "init "+c.Name)
	}
	for _, c := range a.start {
		words = append(words, "start "+c.Name)
	}
	for _, c := range a.ephemeral {
		words = append(words, "ephemeral "+c.Name)
	}
	return strings.Join(words, ", ")
}

func TestActions(t *testing.T) {
	unhealthy := func(names ...string) verdicts {
		return verdicts{failed: func(id actual.ContainerID) actual.FailedProbe {
			if slices.Contains(names, id.ID) {
				return actual.FailedLiveness
			}
			return ""
		}}
	}
	for name, tc := range map[string]struct {
		pod  func(*v1.Pod)
		seen *actual.PodStatus
		v    verdicts
		want string
	}{
		"new pod":                       {plain, observed(nil), verdicts{}, "pod, sandbox 0, start c1, start c2"},
		"new pod with init":             {nil, observed(nil), verdicts{}, "pod, sandbox 0, init i1"},
		"nothing to do":                 {plain, observed(one(0, true), "c1=running", "c2=running"), verdicts{}, ""},
		"sandbox is there":              {plain, observed(one(0, true)), verdicts{}, "start c1, start c2"},
		"one is missing":                {plain, observed(one(0, true), "c1=running"), verdicts{}, "start c2"},
		"one was created only":          {plain, observed(one(0, true), "c1=running", "c2=created"), verdicts{}, "start c2"},
		"one is in an unknown state":    {plain, observed(one(0, true), "c1=running", "c2=unknown"), verdicts{}, "kill c2, start c2"},
		"one has ended":                 {plain, observed(one(0, true), "c1=running", "c2=exited:0"), verdicts{}, "start c2"},
		"one has ended well, OnFailure": {policy(v1.RestartPolicyOnFailure, plain), observed(one(0, true), "c1=running", "c2=exited:0"), verdicts{}, ""},
		"one has failed, OnFailure":     {policy(v1.RestartPolicyOnFailure, plain), observed(one(0, true), "c1=running", "c2=exited:1"), verdicts{}, "start c2"},
		"one has failed, Never":         {policy(v1.RestartPolicyNever, plain), observed(one(0, true), "c1=running", "c2=exited:1"), verdicts{}, ""},
		"all have ended, Never":         {policy(v1.RestartPolicyNever, plain), observed(one(0, true), "c1=exited:0", "c2=exited:1"), verdicts{}, "pod"},
		"all have ended, OnFailure":     {policy(v1.RestartPolicyOnFailure, plain), observed(one(0, true), "c1=exited:0", "c2=exited:0"), verdicts{}, "pod"},

		"definition changed": {func(p *v1.Pod) { plain(p); p.Spec.Containers[0].Image = "y" }, observed(one(0, true), "c1=running", "c2=running"), verdicts{}, "kill c1, start c1"},
		"definition changed, Never": {policy(v1.RestartPolicyNever, func(p *v1.Pod) { plain(p); p.Spec.Containers[0].Image = "y" }),
			observed(one(0, true), "c1=running", "c2=running"), verdicts{}, "kill c1, start c1"},
		"unhealthy":        {plain, observed(one(0, true), "c1=running", "c2=running"), unhealthy("c2"), "kill c2, start c2"},
		"unhealthy, Never": {policy(v1.RestartPolicyNever, plain), observed(one(0, true), "c1=running", "c2=running"), unhealthy("c2"), "kill c2"},

		"own policy Always, the others are done": {policy(v1.RestartPolicyNever, plain, ownPolicy("c2", v1.ContainerRestartPolicyAlways)), observed(one(0, true), "c1=exited:0", "c2=exited:0"), verdicts{}, "start c2"},
		"own policy Never, Always":               {policy(v1.RestartPolicyAlways, plain, ownPolicy("c2", v1.ContainerRestartPolicyNever)), observed(one(0, true), "c1=running", "c2=exited:1"), verdicts{}, ""},
		"own rule meets":                         {policy(v1.RestartPolicyNever, plain, ownPolicy("c2", v1.ContainerRestartPolicyNever, 42)), observed(one(0, true), "c1=exited:0", "c2=exited:42"), verdicts{}, "start c2"},
		"own rule does not meet":                 {policy(v1.RestartPolicyNever, plain, ownPolicy("c2", v1.ContainerRestartPolicyNever, 42)), observed(one(0, true), "c1=exited:0", "c2=exited:1"), verdicts{}, "pod"},
		"unhealthy has no exit code yet":         {policy(v1.RestartPolicyAlways, plain, ownPolicy("c2", v1.ContainerRestartPolicyNever, 1)), observed(one(0, true), "c1=running", "c2=running"), unhealthy("c2"), "kill c2"},
		"init with own policy Never":             {ownPolicy("i1", v1.ContainerRestartPolicyNever), observed(one(0, true), "i1=exited:1"), verdicts{}, "pod"},
		"init whose rule meets":                  {policy(v1.RestartPolicyNever, ownPolicy("i1", v1.ContainerRestartPolicyNever, 42)), observed(one(0, true), "i1=exited:42"), verdicts{}, "init i1"},

		"a rule restarts all": {policy(v1.RestartPolicyNever, restartingAll("c1", 42)), observed(one(0, true), "c2=running", "c1=exited:42", "i2=exited:0", "i1=exited:0"), verdicts{},
			"reset c2, reset i1, reset i2, reset c1"},
		"its earlier attempts go before it": {policy(v1.RestartPolicyNever, plain, restartingAll("c1", 42)), observed(one(0, true), "c1=exited:42", "c2=exited:1", "c1=exited:1"), verdicts{},
			"reset c1, reset c2, reset c1"},
		"an init container's rule restarts all": {policy(v1.RestartPolicyNever, restartingAll("i2", 42)), observed(one(0, true), "i2=exited:42", "i1=exited:0"), verdicts{}, "reset i1, reset i2"},
		"all restart, though the sandbox died":  {policy(v1.RestartPolicyAlways, plain, restartingAll("c1", 42)), observed(one(0, false), "c2=exited:137", "c1=exited:42"), verdicts{}, "reset c2, reset c1"},
		"ephemeral containers stay":             {ephemeralAnd("", restartingAll("c1", 42)), observed(one(0, true), "e1=running", "c2=running", "c1=exited:42"), verdicts{}, "reset c2, reset c1"},
		"a rule for another code":               {policy(v1.RestartPolicyNever, plain, restartingAll("c1", 42)), observed(one(0, true), "c2=running", "c1=exited:41"), verdicts{}, ""},
		"the rule of an earlier end":            {policy(v1.RestartPolicyAlways, plain, restartingAll("c1", 42)), observed(one(0, true), "c1=running", "c2=running", "c1=exited:42"), verdicts{}, ""},
		"all restart, being deleted": {policy(v1.RestartPolicyNever, plain, restartingAll("c1", 42), func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
			observed(one(0, true), "c2=running", "c1=exited:42"), verdicts{}, ""},

		"sandbox died":               {plain, observed(one(2, false), "c1=exited:137", "c2=exited:137"), verdicts{}, "pod, sandbox 3, start c1, start c2"},
		"sandbox died, c2 is done":   {policy(v1.RestartPolicyOnFailure, plain), observed(one(0, false), "c1=exited:137", "c2=exited:0"), verdicts{}, "pod, sandbox 1, start c1"},
		"sandbox died, all are done": {policy(v1.RestartPolicyOnFailure, plain), observed(one(0, false), "c1=exited:0", "c2=exited:0"), verdicts{}, "pod"},
		"sandbox died, Never":        {policy(v1.RestartPolicyNever, plain), observed(one(0, false), "c1=exited:137", "c2=exited:137"), verdicts{}, "pod"},
		"sandbox died, init again":   {nil, observed(one(0, false), "c1=exited:137", "i2=exited:0", "i1=exited:0"), verdicts{}, "pod, sandbox 1, init i1"},
		"sandbox lost its address": {plain, observed(func() []*cri.PodSandboxStatus {
			s := sandbox(0, true)
			s.Network.Ip = ""
			return []*cri.PodSandboxStatus{s}
		}(), "c1=running", "c2=running"),
			verdicts{}, "pod, sandbox 1, start c1, start c2"},
		"an earlier attempt runs again": {plain, observed(one(0, true), "c2=running", "c1=running", "c1=running", "c1=exited:1"), verdicts{}, "stray c1"},
		"beside one that has ended":     {policy(v1.RestartPolicyOnFailure, plain), observed(one(0, true), "c2=running", "c1=exited:0", "c1=running"), verdicts{}, "stray c1"},
		"beside one that is made":       {plain, observed(one(0, true), "c2=running", "c1=created", "c1=running"), verdicts{}, "stray c1, start c1"},
		"of an init container":          {nil, observed(one(0, true), "c2=running", "c1=running", "i2=exited:0", "i1=exited:0", "i1=running"), verdicts{}, "stray i1"},
		"nothing is said of the network": {plain, observed(func() []*cri.PodSandboxStatus {
			s := sandbox(0, true)
			s.Network = nil
			return []*cri.PodSandboxStatus{s}
		}(), "c1=running", "c2=running"),
			verdicts{}, ""},
		"two sandboxes are ready": {plain, observed([]*cri.PodSandboxStatus{sandbox(1, true), sandbox(0, true)}, "c1=running", "c2=running"), verdicts{}, "pod, sandbox 2, start c1, start c2"},
		"host network now":        {func(p *v1.Pod) { plain(p); p.Spec.HostNetwork = true }, observed(one(0, true), "c1=running", "c2=running"), verdicts{}, "pod, sandbox 1, start c1, start c2"},

		"first init":                     {nil, observed(one(0, true)), verdicts{}, "init i1"},
		"first init runs":                {nil, observed(one(0, true), "i1=running"), verdicts{}, ""},
		"second init":                    {nil, observed(one(0, true), "i1=exited:0"), verdicts{}, "init i2"},
		"init failed":                    {nil, observed(one(0, true), "i1=exited:1"), verdicts{}, "init i1"},
		"init failed, Never":             {policy(v1.RestartPolicyNever), observed(one(0, true), "i1=exited:1"), verdicts{}, "pod"},
		"init done":                      {nil, observed(one(0, true), "i2=exited:0", "i1=exited:0"), verdicts{}, "start c1, start c2"},
		"first init collected":           {nil, observed(one(0, true), "i2=running"), verdicts{}, ""},
		"inits collected, pod runs":      {nil, observed(one(0, true), "c1=running", "c2=running"), verdicts{}, ""},
		"init of the old sandbox":        {nil, observed([]*cri.PodSandboxStatus{sandbox(1, true), sandbox(0, false)}, "c1=exited@s0:137", "i2=exited@s0:0", "i1=exited@s0:0"), verdicts{}, "init i1"},
		"init unknown":                   {nil, observed(one(0, true), "i1=unknown"), verdicts{}, "kill i1, init i1"},
		"sandbox died after init failed": {policy(v1.RestartPolicyNever), observed(one(0, false), "i1=exited:1"), verdicts{}, "pod"},

		"sidecar first":               {withSidecar, observed(one(0, true)), verdicts{}, "init i1"},
		"sidecar runs, next init":     {withSidecar, observed(one(0, true), "i1=running"), verdicts{}, "init i2"},
		"sidecar has not started yet": {withSidecar, observed(one(0, true), "i1=running"), verdicts{started: func(actual.ContainerID) bool { return false }}, ""},
		"sidecar ended, pod runs":     {withSidecar, observed(one(0, true), "c1=running", "c2=running", "i2=exited:0", "i1=exited:0"), verdicts{}, "init i1"},
		"sidecar unhealthy":           {withSidecar, observed(one(0, true), "c1=running", "c2=running", "i2=exited:0", "i1=running"), unhealthy("i1"), "kill i1, init i1"},
		"sidecar outlives the pod":    {policy(v1.RestartPolicyNever, withSidecar), observed(one(0, true), "c1=exited:0", "c2=exited:0", "i2=exited:0", "i1=running"), verdicts{}, "pod"},

		"sidecar first, never started":   {sidecarsOnly, observed(one(0, true), "i1=exited:1"), verdicts{}, "init i1"},
		"sidecar after sidecar":          {sidecarsOnly, observed(one(0, true), "i1=running"), verdicts{}, "init i2"},
		"sidecars run":                   {sidecarsOnly, observed(one(0, true), "i2=running", "i1=running"), verdicts{}, "start c1, start c2"},
		"last sidecar has not started":   {sidecarsOnly, observed(one(0, true), "i2=running", "i1=running"), verdicts{started: func(id actual.ContainerID) bool { return id.ID != "i2" }}, ""},
		"sidecar ended during init":      {withSidecar, observed(one(0, true), "i2=running", "i1=exited:1"), verdicts{}, "init i1"},
		"sidecar ended, init is done":    {withSidecar, observed(one(0, true), "i2=exited:0", "i1=exited:1"), verdicts{}, "init i1, start c1, start c2"},
		"sidecar ended, init failed":     {withSidecar, observed(one(0, true), "i2=exited:1", "i1=exited:1"), verdicts{}, "init i1, init i2"},
		"sidecar of the old sandbox":     {withSidecar, observed([]*cri.PodSandboxStatus{sandbox(1, true), sandbox(0, false)}, "i2=exited@s0:0", "i1=exited@s0:0"), verdicts{}, "init i1"},
		"sidecar restarts though Never":  {policy(v1.RestartPolicyNever, withSidecar), observed(one(0, true), "c1=running", "c2=exited:0", "i2=exited:0", "i1=exited:1"), verdicts{}, "init i1"},
		"sidecar dead, pod is done":      {policy(v1.RestartPolicyOnFailure, withSidecar), observed(one(0, true), "c1=exited:0", "c2=exited:0", "i2=exited:0", "i1=exited:1"), verdicts{}, "pod"},
		"sidecar runs, c1 is to restart": {policy(v1.RestartPolicyOnFailure, withSidecar), observed(one(0, true), "c1=exited:1", "c2=exited:0", "i2=exited:0", "i1=running"), verdicts{}, "start c1"},
		"sidecar unknown":                {withSidecar, observed(one(0, true), "c1=running", "c2=running", "i2=exited:0", "i1=unknown"), verdicts{}, "kill i1, init i1"},
		"sidecar's definition changed": {func(p *v1.Pod) { withSidecar(p); p.Spec.InitContainers[0].Image = "y" },
			observed(one(0, true), "c1=running", "c2=running", "i2=exited:0", "i1=running"), verdicts{}, "kill i1, init i1"},
		"sidecar collected": {withSidecar, observed(one(0, true), "c1=running", "c2=running"), verdicts{}, "init i1"},

		"ephemeral":                       {ephemeral(""), observed(one(0, true), "c1=running", "c2=running"), verdicts{}, "ephemeral e1, ephemeral e2"},
		"ephemeral is never restarted":    {ephemeral(""), observed(one(0, true), "c1=running", "c2=running", "e1=exited:1"), verdicts{}, "ephemeral e2"},
		"ephemeral has run, collected":    {ephemeral("docker://x"), observed(one(0, true), "c1=running", "c2=running"), verdicts{}, "ephemeral e2"},
		"ephemeral during init":           {func(p *v1.Pod) { ephemeral("")(p); p.Spec.InitContainers = testPod(nil).Spec.InitContainers }, observed(one(0, true), "i1=running"), verdicts{}, "ephemeral e1, ephemeral e2"},
		"ephemeral not in a new sandbox":  {ephemeral(""), observed(one(0, false), "c1=exited:137", "c2=exited:137", "e1=exited:137", "e2=exited:137"), verdicts{}, "pod, sandbox 1, start c1, start c2"},
		"ephemeral does not hold the pod": {policy(v1.RestartPolicyNever, ephemeral("")), observed(one(0, true), "c1=exited:0", "c2=exited:0", "e1=running", "e2=running"), verdicts{}, "pod"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod(tc.pod)
			if got := said(computeActions(pod, tc.seen, tc.v)); got != tc.want {
				t.Errorf("actions: %q, want %q", got, tc.want)
			}
			replays(t, pod, tc.seen, tc.v)
		})
	}
}

func TestKilledForAProbe(t *testing.T) {
	always, never, failing := v1.ContainerRestartPolicyAlways, v1.ContainerRestartPolicyNever, v1.ContainerRestartPolicyOnFailure
	probes := func(c *v1.Container) {
		short, long := int64(3), int64(60)
		c.LivenessProbe = &v1.Probe{TerminationGracePeriodSeconds: &short}
		c.StartupProbe = &v1.Probe{TerminationGracePeriodSeconds: &long}
	}
	for name, tc := range map[string]struct {
		pod    func(*v1.Pod)
		failed actual.FailedProbe
		of     string
		want   string // message and grace period, which is 0 for the pod's
		then   string // what is done
	}{
		"liveness":                       {plain, actual.FailedLiveness, "c1", "Container c1 failed liveness probe, will be restarted/0", "kill c1, start c1"},
		"startup":                        {plain, actual.FailedStartup, "c1", "Container c1 failed startup probe, will be restarted/0", "kill c1, start c1"},
		"liveness, its own grace period": {func(p *v1.Pod) { plain(p); probes(&p.Spec.Containers[0]) }, actual.FailedLiveness, "c1", "Container c1 failed liveness probe, will be restarted/3", "kill c1, start c1"},
		"startup, its own grace period":  {func(p *v1.Pod) { plain(p); probes(&p.Spec.Containers[0]) }, actual.FailedStartup, "c1", "Container c1 failed startup probe, will be restarted/60", "kill c1, start c1"},
		"Never":                          {policy(v1.RestartPolicyNever, plain), actual.FailedLiveness, "c1", "Container c1 failed liveness probe/0", "kill c1"},
		"OnFailure":                      {policy(v1.RestartPolicyOnFailure, plain), actual.FailedLiveness, "c1", "Container c1 failed liveness probe, will be restarted/0", "kill c1, start c1"},
		"Never, the only container": {policy(v1.RestartPolicyNever, func(p *v1.Pod) { plain(p); p.Spec.Containers = p.Spec.Containers[:1]; probes(&p.Spec.Containers[0]) }),
			actual.FailedLiveness, "c1", "Container c1 failed liveness probe/3", "pod, kill c1"},
		"container policy Never": {func(p *v1.Pod) { plain(p); p.Spec.Containers[0].RestartPolicy = &never }, actual.FailedLiveness, "c1", "Container c1 failed liveness probe/0", "kill c1"},
		"rules do not count": {func(p *v1.Pod) {
			plain(p)
			p.Spec.RestartPolicy = v1.RestartPolicyNever
			p.Spec.Containers[0].RestartPolicy = &failing
		}, actual.FailedLiveness, "c1", "Container c1 failed liveness probe, will be restarted/0", "kill c1, start c1"},
		"sidecar": {func(p *v1.Pod) {
			p.Spec.RestartPolicy = v1.RestartPolicyNever
			p.Spec.InitContainers[1].RestartPolicy = &always
			probes(&p.Spec.InitContainers[1])
		}, actual.FailedLiveness, "i2", "Init container i2 failed liveness probe, will be restarted/3", "kill i2, init i2"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod(tc.pod)
			states := []string{"i1=exited:0", "i2=running", "c1=running", "c2=running"}
			seen := observed(one(0, true), states...)
			for _, c := range seen.Containers {
				c.Hash = 0 // what it was made from does not matter here
			}
			a := computeActions(pod, seen, verdicts{failed: func(id actual.ContainerID) actual.FailedProbe {
				if id.ID == tc.of {
					return tc.failed
				}
				return ""
			}})
			if got := said(a); got != tc.then {
				t.Errorf("actions: %q, want %q", got, tc.then)
			}
			if len(a.kill) != 1 {
				t.Fatalf("kills %d containers", len(a.kill))
			}
			grace := int64(0)
			if a.kill[0].grace != nil {
				grace = *a.kill[0].grace
			}
			if got := fmt.Sprintf("%s/%d", a.kill[0].message, grace); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// A sidecar that is restarted because of its liveness probe delays none of those
// after it.
func TestALivenessFailureOfASidecarHoldsUpNothing(t *testing.T) {
	a := computeActions(testPod(withSidecar), observed(one(0, true), "i1=running"), verdicts{failed: func(actual.ContainerID) actual.FailedProbe { return actual.FailedLiveness }})
	if got := said(a); got != "kill i1, init i1, init i2" {
		t.Errorf("actions: %q", got)
	}
}

// Whatever was observed, following the actions must come to an end: once everything
// that was started runs, nothing is left to do.
func TestActionsComeToAnEnd(t *testing.T) {
	for _, change := range []func(*v1.Pod){nil, plain, withSidecar, policy(v1.RestartPolicyNever), policy(v1.RestartPolicyOnFailure, plain)} {
		pod := testPod(change)
		seen := observed(nil)
		for step := 0; ; step++ {
			a := computeActions(pod, seen, verdicts{})
			if said(a) == "" {
				break
			}
			if step > 10 {
				t.Fatalf("still to do after %d steps: %q", step, said(a))
			}
			if a.createSandbox {
				seen.Sandboxes = append(one(a.attempt, true), seen.Sandboxes...)
			}
			id := seen.Sandboxes[0].Id
			for _, c := range slices.Concat(a.init, a.start) {
				state := actual.StateRunning
				if slices.ContainsFunc(a.init, func(i *v1.Container) bool { return i == c }) && !pods.IsSidecar(c) {
					state = actual.StateExited // and well
				}
				seen.Containers = append([]*actual.ContainerStatus{{ID: actual.ContainerID{Runtime: "docker", ID: c.Name}, Name: c.Name, State: state, SandboxID: id, Hash: hashContainer(c)}}, seen.Containers...)
			}
		}
		for _, c := range pod.Spec.Containers {
			if s := seen.Container(c.Name); s == nil || s.State != actual.StateRunning {
				t.Errorf("container %s: %+v", c.Name, s)
			}
		}
	}
}

func TestNeedsNetwork(t *testing.T) {
	host := func(p *v1.Pod) { p.Spec.HostNetwork = true }
	unattached := sandbox(0, true)
	unattached.Network.Ip = ""
	for name, tc := range map[string]struct {
		pod      *v1.Pod
		observed *actual.PodStatus
		want     bool
	}{
		"new":                           {testPod(nil), observed(nil), true},
		"new, on the host's network":    {testPod(host), observed(nil), false},
		"it has its sandbox":            {testPod(plain), observed(one(0, true), "c1=exited:1"), false},
		"its sandbox is dead":           {testPod(plain), observed(one(0, false), "c1=exited:1"), true},
		"its sandbox has no address":    {testPod(plain), observed([]*cri.PodSandboxStatus{unattached}), true},
		"nothing of it is to run again": {testPod(policy(v1.RestartPolicyNever, plain)), observed(one(0, false), "c1=exited:0", "c2=exited:0"), false},
	} {
		if got := NeedsNetwork(tc.pod, tc.observed); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
