package podstatus

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 999, time.UTC)

// testPod has an init container i and containers c1 and c2.
func testPod(change func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: "u", Name: "p", Namespace: "n", Generation: 3},
		Spec: v1.PodSpec{
			RestartPolicy:  v1.RestartPolicyAlways,
			InitContainers: []v1.Container{{Name: "i", Image: "x"}},
			Containers:     []v1.Container{{Name: "c2", Image: "x"}, {Name: "c1", Image: "x"}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

func plain(p *v1.Pod) { p.Spec.InitContainers = nil }

func never(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }

func plainNever(p *v1.Pod) { plain(p); never(p) }

func withSidecar(p *v1.Pod) {
	always := v1.ContainerRestartPolicyAlways
	p.Spec.InitContainers[0].RestartPolicy = &always
}

// observed is what the runtime shows: containers as "c1=running", "c1=exited:3",
// newest first, with the number of restarts after "#".
func observed(containers ...string) *actual.PodStatus {
	st := &actual.PodStatus{UID: "u", IPs: []string{"10.0.0.2", "fd00::2"}, Sandboxes: []*cri.PodSandboxStatus{{Id: "s", State: cri.PodSandboxState_SANDBOX_READY}}}
	for i, text := range containers {
		text, restarts, _ := strings.Cut(text, "#")
		name, state, _ := strings.Cut(text, "=")
		state, code, _ := strings.Cut(state, ":")
		c := &actual.ContainerStatus{ID: actual.ContainerID{Runtime: "docker", ID: fmt.Sprint(name, i)}, Name: name, State: actual.State(state), Image: "x", ImageID: "sha256:x", StartedAt: now, FinishedAt: now}
		fmt.Sscan(code, &c.ExitCode)
		fmt.Sscan(restarts, &c.RestartCount)
		if c.State == actual.StateExited {
			c.Reason = map[bool]string{true: "Completed", false: "Error"}[c.ExitCode == 0]
		}
		st.Containers = append(st.Containers, c)
	}
	return st
}

// brief writes a container's status down: "c1 running ready", "c1 CrashLoopBackOff #2 last Error 1".
func brief(s v1.ContainerStatus) string {
	text := s.Name
	switch {
	case s.State.Running != nil:
		text += " running"
	case s.State.Terminated != nil:
		text += fmt.Sprintf(" %s %d", s.State.Terminated.Reason, s.State.Terminated.ExitCode)
	case s.State.Waiting != nil:
		text += " " + s.State.Waiting.Reason
	}
	if s.Ready {
		text += " ready"
	}
	if s.RestartCount > 0 {
		text += fmt.Sprintf(" #%d", s.RestartCount)
	}
	if l := s.LastTerminationState.Terminated; l != nil {
		text += fmt.Sprintf(" last %s %d", l.Reason, l.ExitCode)
	}
	return text
}

func briefly(s v1.PodStatus) string {
	var words []string
	for _, list := range [][]v1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			words = append(words, brief(c))
		}
	}
	return string(s.Phase) + ": " + strings.Join(words, ", ")
}

func TestPhaseAndContainers(t *testing.T) {
	for name, tc := range map[string]struct {
		pod      func(*v1.Pod)
		seen     *actual.PodStatus
		waiting  map[string]actual.Waiting
		terminal bool
		want     string
	}{
		"never looked at":        {plain, nil, nil, false, "Pending: c1 ContainerCreating, c2 ContainerCreating"},
		"never looked at, init":  {nil, nil, nil, false, "Pending: i PodInitializing, c1 PodInitializing, c2 PodInitializing"},
		"init runs":              {nil, observed("i=running"), nil, false, "Pending: i running, c1 PodInitializing, c2 PodInitializing"},
		"init done":              {nil, observed("i=exited:0"), nil, false, "Pending: i Completed 0 ready, c1 PodInitializing, c2 PodInitializing"},
		"init failed":            {nil, observed("i=exited:1"), nil, false, "Pending: i Error 1, c1 PodInitializing, c2 PodInitializing"},
		"init failed, Never":     {never, observed("i=exited:1"), nil, false, "Failed: i Error 1, c1 PodInitializing, c2 PodInitializing"},
		"init collected":         {nil, observed("c1=running", "c2=running"), nil, false, "Running: i Completed 0 ready, c1 running ready, c2 running ready"},
		"all run":                {plain, observed("c1=running", "c2=running"), nil, false, "Running: c1 running ready, c2 running ready"},
		"one is to come":         {plain, observed("c1=running"), nil, false, "Pending: c1 running ready, c2 ContainerCreating"},
		"one cannot be pulled":   {plain, observed("c1=running"), map[string]actual.Waiting{"c2": {Reason: "ImagePullBackOff"}}, false, "Pending: c1 running ready, c2 ImagePullBackOff"},
		"one crashes":            {plain, observed("c1=running", "c2=exited:1#2"), map[string]actual.Waiting{"c2": {Reason: "CrashLoopBackOff"}}, false, "Running: c1 running ready, c2 CrashLoopBackOff #2 last Error 1"},
		"restarted":              {plain, observed("c1=running", "c2=running#1", "c2=exited:3"), nil, false, "Running: c1 running ready, c2 running ready #1 last Error 3"},
		"one is done, Never":     {plainNever, observed("c1=running", "c2=exited:0"), nil, false, "Running: c1 running ready, c2 Completed 0"},
		"all are done, Never":    {plainNever, observed("c1=exited:0", "c2=exited:0"), nil, false, "Succeeded: c1 Completed 0, c2 Completed 0"},
		"one has failed, Never":  {plainNever, observed("c1=exited:0", "c2=exited:1"), nil, false, "Failed: c1 Completed 0, c2 Error 1"},
		"all have ended, Always": {plain, observed("c1=exited:0", "c2=exited:0"), nil, false, "Running: c1 Completed 0, c2 Completed 0"},
		"killed for good":        {plain, observed("c1=exited:137", "c2=exited:0"), nil, true, "Failed: c1 Error 137, c2 Completed 0"},
		"ended well for good":    {plain, observed("c1=exited:0", "c2=exited:0"), nil, true, "Succeeded: c1 Completed 0, c2 Completed 0"},
		"lost":                   {plain, observed("c1=exited:0"), nil, true, "Failed: c1 Completed 0, c2 ContainerStatusUnknown 137"},
		"never initialised":      {nil, observed("i=exited:0"), nil, true, "Failed: i Completed 0 ready, c1 ContainerStatusUnknown 137, c2 ContainerStatusUnknown 137"},
		"sidecar":                {withSidecar, observed("i=running", "c1=running", "c2=running"), nil, false, "Running: i running ready, c1 running ready, c2 running ready"},
		"unknown":                {plain, observed("c1=running", "c2=unknown"), nil, false, "Running: c1 running ready, c2 ContainerStatusUnknown 137"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Generate(Input{Pod: testPod(tc.pod), Observed: tc.seen, Waiting: tc.waiting, Terminal: tc.terminal, Now: now})
			if briefly(got) != tc.want {
				t.Errorf("status %q, want %q", briefly(got), tc.want)
			}
		})
	}
}

func TestWhatIsRemovedBehindTheBackIsRemembered(t *testing.T) {
	pod := testPod(plain)
	first := Generate(Input{Pod: pod, Observed: observed("c1=running", "c2=running"), Now: now})
	gone := Generate(Input{Pod: pod, Observed: observed("c2=running"), Old: first, Now: now})
	if got, want := brief(gone.ContainerStatuses[0]), "c1 ContainerCreating #1 last ContainerStatusUnknown 137"; got != want {
		t.Errorf("status %q, want %q", got, want)
	}
}

// A container that runs only once has ended when it is gone; one that is started again
// waits.
func TestWhatRunsOnceAndIsGoneHasEnded(t *testing.T) {
	ownNever := func(p *v1.Pod) {
		plain(p)
		own := v1.ContainerRestartPolicyNever
		p.Spec.Containers[1].RestartPolicy = &own // c1
	}
	for name, tc := range map[string]struct {
		pod          func(*v1.Pod)
		before, then *actual.PodStatus
		want         string
	}{
		"Never":               {plainNever, observed("c1=running", "c2=running"), observed("c2=running"), "Running: c1 ContainerStatusUnknown 137, c2 running ready"},
		"Never, all":          {plainNever, observed("c1=running", "c2=running"), observed(), "Failed: c1 ContainerStatusUnknown 137, c2 ContainerStatusUnknown 137"},
		"Never, done":         {plainNever, observed("c1=exited:0", "c2=running"), observed("c2=running"), "Running: c1 Completed 0, c2 running ready"},
		"Never, created":      {plainNever, observed("c1=created", "c2=running"), observed("c2=running"), "Pending: c1 ContainerCreating, c2 running ready"},
		"Never, init":         {never, observed("i=running"), observed(), "Failed: i ContainerStatusUnknown 137, c1 PodInitializing, c2 PodInitializing"},
		"Never, init is done": {never, observed("i=running"), observed("c1=running"), "Pending: i Completed 0 ready #1 last ContainerStatusUnknown 137, c1 running ready, c2 PodInitializing"},
		"its own Never":       {ownNever, observed("c1=running", "c2=running"), observed("c2=running"), "Running: c1 ContainerStatusUnknown 137, c2 running ready"},
		"Always":              {plain, observed("c1=running", "c2=running"), observed("c2=running"), "Running: c1 ContainerCreating #1 last ContainerStatusUnknown 137, c2 running ready"},
	} {
		pod := testPod(tc.pod)
		before := Generate(Input{Pod: pod, Observed: tc.before, Now: now})
		if got := briefly(Generate(Input{Pod: pod, Observed: tc.then, Old: before, Now: now})); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestAllContainersAreRestartedInPlace(t *testing.T) {
	pod := testPod(func(p *v1.Pod) {
		never(p)
		own := v1.ContainerRestartPolicyNever
		c := &p.Spec.Containers[1] // c1
		c.RestartPolicy = &own
		c.RestartPolicyRules = []v1.ContainerRestartRule{{Action: v1.ContainerRestartRuleActionRestartAllContainers,
			ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
	})
	var s v1.PodStatus
	for _, step := range []struct {
		what             string
		seen             *actual.PodStatus
		want, restarting string
	}{
		{"runs", observed("c2=running", "c1=running", "i=exited:0"),
			"Running: i Completed 0 ready, c1 running ready, c2 running ready", "False"},
		{"one ends", observed("c2=running", "c1=exited:42", "i=exited:0"),
			"Running: i Completed 0 ready, c1 Error 42, c2 running ready", "True/RestartAllContainersStarted"},
		{"the agent was killed half way", observed("c1=exited:42"),
			"Running: i RestartingAllContainers #1 last RestartingAllContainers 137, c1 Error 42, c2 RestartingAllContainers #1 last RestartingAllContainers 137", "True/RestartAllContainersStarted"},
		{"all are gone", observed(),
			"Running: i PodInitializing #1 last RestartingAllContainers 137, c1 RestartingAllContainers #1 last RestartingAllContainers 137, c2 PodInitializing #1 last RestartingAllContainers 137", "False"},
		{"the first starts again", observed("i=running#1"),
			"Running: i running #1 last RestartingAllContainers 137, c1 PodInitializing #1 last RestartingAllContainers 137, c2 PodInitializing #1 last RestartingAllContainers 137", "False"},
		{"all run again", observed("c2=running#1", "c1=running#1", "i=exited:0#1"),
			"Running: i Completed 0 ready #1 last RestartingAllContainers 137, c1 running ready #1 last RestartingAllContainers 137, c2 running ready #1 last RestartingAllContainers 137", "False"},
		{"they end by themselves", observed("c2=exited:0#1", "c1=exited:0#1", "i=exited:0#1"),
			"Succeeded: i Completed 0 ready #1 last RestartingAllContainers 137, c1 Completed 0 #1 last RestartingAllContainers 137, c2 Completed 0 #1 last RestartingAllContainers 137", "False/PodCompleted"},
	} {
		for _, c := range step.seen.Containers { // IDs are of containers, not of places
			c.ID.ID = fmt.Sprint(c.Name, c.RestartCount)
		}
		next := Generate(Input{Pod: pod, Observed: step.seen, Old: s, Now: now})
		forwards(pod, s, &next)
		s = next
		c := condition(s, v1.AllContainersRestarting)
		if c == nil {
			t.Fatalf("%s: no condition", step.what)
		}
		restarting := string(c.Status)
		if c.Reason != "" {
			restarting += "/" + c.Reason
		}
		if briefly(s) != step.want || restarting != step.restarting {
			t.Errorf("%s: %q, restarting %s; want %q, %s", step.what, briefly(s), restarting, step.want, step.restarting)
		}
		if c := condition(s, v1.PodInitialized); c.Status != v1.ConditionTrue {
			t.Errorf("%s: the pod was initialised and now is not", step.what)
		}
	}
}

func TestCollectedLastAttemptIsRemembered(t *testing.T) {
	pod := testPod(plain)
	first := Generate(Input{Pod: pod, Observed: observed("c1=running#1", "c1=exited:7", "c2=running"), Now: now})
	again := Generate(Input{Pod: pod, Observed: observed("c1=running#1", "c2=running"), Old: first, Now: now})
	if got, want := brief(again.ContainerStatuses[0]), "c1 running ready #1 last Error 7"; got != want {
		t.Errorf("status %q, want %q", got, want)
	}
}

func conditionsOf(s v1.PodStatus) string {
	var words []string
	for _, c := range s.Conditions {
		word := fmt.Sprintf("%s=%s", c.Type, c.Status)
		if c.Reason != "" {
			word += "/" + c.Reason
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestEphemeralContainers(t *testing.T) {
	with := func(p *v1.Pod) {
		plainNever(p)
		p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e"}}}
	}
	ran := v1.PodStatus{EphemeralContainerStatuses: []v1.ContainerStatus{{Name: "e", ContainerID: "docker://e", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}}}
	for name, tc := range map[string]struct {
		seen *actual.PodStatus
		old  v1.PodStatus
		want string
	}{
		"not started":               {observed("c1=running", "c2=running"), v1.PodStatus{}, "Running: e ContainerCreating"},
		"runs, never ready":         {observed("c1=running", "c2=running", "e=running"), v1.PodStatus{}, "Running: e running"},
		"its end is not the pod's":  {observed("c1=running", "c2=running", "e=exited:1"), v1.PodStatus{}, "Running: e Error 1"},
		"does not keep the pod":     {observed("c1=exited:0", "c2=exited:0", "e=running"), v1.PodStatus{}, "Succeeded: e running"},
		"its failure is its own":    {observed("c1=exited:0", "c2=exited:0", "e=exited:1"), v1.PodStatus{}, "Succeeded: e Error 1"},
		"removed behind its back":   {observed("c1=running", "c2=running"), ran, "Running: e ContainerStatusUnknown 137"},
		"nothing but the ephemeral": {observed("e=running"), v1.PodStatus{}, "Pending: e running"},
	} {
		s := Generate(Input{Pod: testPod(with), Observed: tc.seen, Old: tc.old, Now: now})
		e := s.EphemeralContainerStatuses
		if len(e) != 1 || e[0].Started != nil {
			t.Errorf("%s: statuses %+v", name, e)
			continue
		}
		if got := string(s.Phase) + ": " + brief(e[0]); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		if r := condition(s, v1.PodReady); name == "runs, never ready" && r.Status != v1.ConditionTrue {
			t.Errorf("%s: pod is not ready: %+v", name, r)
		}
	}
}

func TestTerminationMessagesShareTheirRoom(t *testing.T) {
	for n, want := range map[int]int{1: 4096, 3: 4096, 4: 3072, 5: 2457, 13: 944} { // 12288/13 is 945, amid an é
		pod := testPod(func(p *v1.Pod) {
			p.Spec.InitContainers, p.Spec.Containers = nil, nil
			for i := range n {
				p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: fmt.Sprintf("c%02d", i)})
			}
		})
		seen := observed("c00=running", "c00=exited:1")
		seen.Containers[1].Message = strings.Repeat("é", 2048)
		if n == 5 {
			seen.Containers[1].Message = strings.Repeat("e", 4096)
		}
		s := Generate(Input{Pod: pod, Observed: seen, Now: now})
		if got := s.ContainerStatuses[0].LastTerminationState.Terminated.Message; len(got) != want || !strings.HasPrefix(seen.Containers[1].Message, got) {
			t.Errorf("%d containers: %d bytes, want %d", n, len(got), want)
		}
	}
}

func TestWhyContainersWaitFitsIntoAStatus(t *testing.T) {
	for n := range 40 {
		in := Input{Pod: testPod(func(p *v1.Pod) { p.Spec.InitContainers, p.Spec.Containers = nil, nil }), Waiting: map[string]actual.Waiting{}, Now: now}
		for i := range n + 1 {
			name := fmt.Sprintf("c%02d", i)
			in.Pod.Spec.Containers = append(in.Pod.Spec.Containers, v1.Container{Name: name})
			in.Waiting[name] = actual.Waiting{Reason: "RunContainerError", Message: strings.Repeat("é", 1<<20)}
		}
		all := 0
		for _, s := range Generate(in).ContainerStatuses {
			all += len(s.State.Waiting.Message)
			if !utf8.ValidString(s.State.Waiting.Message) || s.State.Waiting.Reason == "" {
				t.Errorf("%d containers: waits for %q", n+1, s.State.Waiting.Reason)
			}
		}
		if all > maxWaiting || all < maxWaiting/2 {
			t.Errorf("%d containers: %d bytes", n+1, all)
		}
	}
}

func TestConditions(t *testing.T) {
	for name, tc := range map[string]struct {
		in   Input
		want string
	}{
		"nothing yet": {Input{Pod: testPod(nil)},
			"PodReadyToStartContainers=False Initialized=False/ContainersNotInitialized Ready=False/ContainersNotReady ContainersReady=False/ContainersNotReady PodScheduled=True"},
		"sandbox ready": {Input{Pod: testPod(nil), Observed: observed()},
			"PodReadyToStartContainers=True Initialized=False/ContainersNotInitialized Ready=False/ContainersNotReady ContainersReady=False/ContainersNotReady PodScheduled=True"},
		"ready": {Input{Pod: testPod(plain), Observed: observed("c1=running", "c2=running")},
			"PodReadyToStartContainers=True Initialized=True Ready=True ContainersReady=True PodScheduled=True"},
		"probe says no": {Input{Pod: testPod(plain), Observed: observed("c1=running", "c2=running"), Ready: func(id actual.ContainerID) bool { return id.ID != "c20" && id.ID != "c21" }},
			"PodReadyToStartContainers=True Initialized=True Ready=False/ContainersNotReady ContainersReady=False/ContainersNotReady PodScheduled=True"},
		"succeeded": {Input{Pod: testPod(plainNever), Observed: observed("c1=exited:0", "c2=exited:0")},
			"PodReadyToStartContainers=True Initialized=True/PodCompleted Ready=False/PodCompleted ContainersReady=False/PodCompleted PodScheduled=True"},
		"failed": {Input{Pod: testPod(plainNever), Observed: observed("c1=exited:1", "c2=exited:0")},
			"PodReadyToStartContainers=True Initialized=True Ready=False/PodFailed ContainersReady=False/PodFailed PodScheduled=True"},
		"gate": {Input{Pod: testPod(func(p *v1.Pod) { plain(p); p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "x"}} }), Observed: observed("c1=running", "c2=running")},
			"PodReadyToStartContainers=True Initialized=True Ready=False/ReadinessGatesNotReady ContainersReady=True PodScheduled=True"},
		"gate is open": {Input{Pod: testPod(func(p *v1.Pod) { plain(p); p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "x"}} }), Observed: observed("c1=running", "c2=running"),
			Old: v1.PodStatus{Conditions: []v1.PodCondition{{Type: "x", Status: v1.ConditionTrue}}}},
			"PodReadyToStartContainers=True Initialized=True Ready=True ContainersReady=True PodScheduled=True x=True"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.in.Now = now
			if got := conditionsOf(Generate(tc.in)); got != tc.want {
				t.Errorf("conditions\n%s, want\n%s", got, tc.want)
			}
		})
	}
}

func TestTransitionTimesMoveOnlyWithTheStatus(t *testing.T) {
	pod := testPod(plain)
	first := Generate(Input{Pod: pod, Observed: observed("c1=running"), Now: now})
	later := Generate(Input{Pod: pod, Observed: observed("c1=running", "c2=running"), Old: first, Now: now.Add(time.Hour)})
	for _, c := range later.Conditions {
		changed := c.Type == v1.PodReady || c.Type == v1.ContainersReady
		if moved := !c.LastTransitionTime.Time.Equal(now.Truncate(time.Second)); moved != changed {
			t.Errorf("condition %s moved: %v, want %v", c.Type, moved, changed)
		}
	}
	if !later.StartTime.Equal(first.StartTime) {
		t.Errorf("start time moved from %v to %v", first.StartTime, later.StartTime)
	}
}

func TestAddresses(t *testing.T) {
	hosts := []string{"192.0.2.1", "fd00::1"}
	s := Generate(Input{Pod: testPod(plain), Observed: observed(), HostIPs: hosts, Now: now})
	if s.PodIP != "10.0.0.2" || len(s.PodIPs) != 2 || s.HostIP != "192.0.2.1" || len(s.HostIPs) != 2 {
		t.Errorf("pod %s %v, host %s %v", s.PodIP, s.PodIPs, s.HostIP, s.HostIPs)
	}
	host := Generate(Input{Pod: testPod(func(p *v1.Pod) { plain(p); p.Spec.HostNetwork = true }), Observed: observed(), HostIPs: hosts, Now: now})
	if host.PodIP != "192.0.2.1" || len(host.PodIPs) != 2 {
		t.Errorf("pod on the host's network: %s %v", host.PodIP, host.PodIPs)
	}
	if early := Generate(Input{Pod: testPod(func(p *v1.Pod) { plain(p); p.Spec.HostNetwork = true }), HostIPs: hosts, Now: now}); early.PodIP != "192.0.2.1" || len(early.PodIPs) != 2 {
		t.Errorf("such a pod before it has a sandbox: %s %v", early.PodIP, early.PodIPs)
	}
	gone := observed("c1=exited:0", "c2=exited:0")
	gone.IPs = nil
	if done := Generate(Input{Pod: testPod(plain), Observed: gone, Old: s, Terminal: true, Now: now}); done.PodIP != "10.0.0.2" {
		t.Errorf("a pod that is done shows %q", done.PodIP)
	}
}

func TestASandboxIsReadyWithItsNetwork(t *testing.T) {
	for name, tt := range map[string]struct {
		network *cri.PodSandboxNetworkStatus
		want    v1.ConditionStatus
	}{
		"an address":            {&cri.PodSandboxNetworkStatus{Ip: "10.0.0.2"}, v1.ConditionTrue},
		"none":                  {&cri.PodSandboxNetworkStatus{}, v1.ConditionFalse},
		"nothing is said of it": {nil, v1.ConditionTrue},
	} {
		o := observed()
		o.Sandboxes[0].Network = tt.network
		s := Generate(Input{Pod: testPod(plain), Observed: o, Now: now})
		if got := condition(s, v1.PodReadyToStartContainers).Status; got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestAPhaseThatIsFinalStays(t *testing.T) {
	for _, phase := range []v1.PodPhase{v1.PodFailed, v1.PodSucceeded} {
		s := Generate(Input{Pod: testPod(plain), Observed: observed("c1=running", "c2=running"), Old: v1.PodStatus{Phase: phase}, Now: now})
		if s.Phase != phase {
			t.Errorf("%s became %s", phase, s.Phase)
		}
	}
}

func TestGenerateChangesNothingThatItIsGiven(t *testing.T) {
	pod, seen := testPod(nil), observed("c1=running", "c2=exited:1", "i=exited:0")
	old := Generate(Input{Pod: pod, Observed: seen, Now: now})
	before, beforeOld := pod.DeepCopy(), old.DeepCopy()
	Generate(Input{Pod: pod, Observed: seen, Old: old, Waiting: map[string]actual.Waiting{"c2": {Reason: "CrashLoopBackOff"}}, Terminal: true, Now: now.Add(time.Hour)})
	if pod.String() != before.String() {
		t.Error("the pod was changed")
	}
	if old.String() != beforeOld.String() {
		t.Error("the old status was changed")
	}
}

func TestPodThatWasTurnedAwayStaysAsItIs(t *testing.T) {
	old := v1.PodStatus{Phase: v1.PodFailed, Reason: "NodeAffinity", Message: "Pod was rejected", QOSClass: v1.PodQOSBestEffort, ObservedGeneration: 3}
	for name, none := range map[string]*actual.PodStatus{"not looked at": nil, "nothing found": {UID: "u"}} {
		t.Run(name, func(t *testing.T) {
			if got := Generate(Input{Pod: testPod(nil), Observed: none, Old: old, Terminal: true, Now: now}); !equality.Semantic.DeepEqual(got, old) {
				t.Errorf("status = %+v, want %+v", got, old)
			}
		})
	}
	if got := Generate(Input{Pod: testPod(plain), Observed: observed("c1=running"), Old: old, Now: now}); len(got.ContainerStatuses) != 2 {
		t.Errorf("a container that runs is not told of: %+v", got)
	}
}

func TestReasonOfWaitingIsKeptUntilTheNextTry(t *testing.T) {
	old := v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{
		{Name: "c1", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "why"}}},
		{Name: "c2", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "PodInitializing"}}},
	}}
	got := Generate(Input{Pod: testPod(plain), Old: old, Now: now}).ContainerStatuses
	if got[0].State.Waiting.Reason != "ErrImagePull" || got[0].State.Waiting.Message != "why" || got[1].State.Waiting.Reason != "ContainerCreating" {
		t.Errorf("%s, %s", brief(got[0]), brief(got[1]))
	}
	got = Generate(Input{Pod: testPod(plain), Old: old, Waiting: map[string]actual.Waiting{"c1": {Reason: "ImagePullBackOff"}}, Now: now}).ContainerStatuses
	if got[0].State.Waiting.Reason != "ImagePullBackOff" {
		t.Errorf("%s", brief(got[0]))
	}
}

func TestTheLastStateIsThatOfAnEarlierContainer(t *testing.T) {
	refused := map[string]actual.Waiting{"c1": {Reason: "RunContainerError", Message: "no such file"}}
	for name, tt := range map[string]struct {
		policy       v1.RestartPolicy
		change       func(*v1.Pod)
		first, later string // of a container that could not be started, and once it waits for nothing
	}{
		"it never starts again":  {v1.RestartPolicyNever, nil, "c1 Error 127", "c1 Error 127"},
		"it waits for its start": {v1.RestartPolicyAlways, nil, "c1 RunContainerError last Error 127", "c1 Error 127"},
		"its pod is deleted":     {v1.RestartPolicyAlways, func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }, "c1 Error 127", "c1 Error 127"},
	} {
		pod := testPod(func(p *v1.Pod) {
			plain(p)
			p.Spec.RestartPolicy = tt.policy
			if tt.change != nil {
				tt.change(p)
			}
		})
		first := Generate(Input{Pod: pod, Observed: observed("c1=exited:127"), Waiting: refused, Now: now})
		later := Generate(Input{Pod: pod, Observed: observed("c1=exited:127"), Old: first, Now: now})
		for want, s := range map[string]v1.PodStatus{tt.first: first, tt.later: later} {
			if got := brief(*pods.ContainerStatus(s.ContainerStatuses, "c1")); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

func TestARejectedPodHasItsClass(t *testing.T) {
	s := Rejected(testPod(plain), pods.Rejection{Reason: "NodePorts", Message: "taken"}, now)
	if s.QOSClass != v1.PodQOSBestEffort || s.Phase != v1.PodFailed {
		t.Errorf("status %+v", s)
	}
}

func TestAPodsAllocatedResourcesAreItsRequests(t *testing.T) {
	pod := testPod(func(p *v1.Pod) {
		for i := range p.Spec.Containers {
			p.Spec.Containers[i].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("250m")}
		}
	})
	s := Generate(Input{Pod: pod, Observed: observed("c1=running", "c2=running"), Now: now})
	if got := s.AllocatedResources.Cpu().String(); got != "500m" || len(s.AllocatedResources) != 1 || s.Resources != nil {
		t.Errorf("allocated %v, the pod has %v", s.AllocatedResources, s.Resources)
	}
	has := func(cpu string, resize Resize, old v1.PodStatus) v1.PodStatus {
		pod.Spec.Resources = &v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}}
		return Generate(Input{Pod: pod, Observed: observed("c1=running", "c2=running"), Old: old, Resize: resize, Now: now})
	}
	first := has("1", Resize{}, v1.PodStatus{})
	during := has("2", Resize{InProgress: true}, first)
	after := has("2", Resize{}, during)
	for want, s := range map[string]v1.PodStatus{"1": first, "1000m": during, "2": after} {
		if got := s.Resources.Limits[v1.ResourceCPU]; got.Cmp(resource.MustParse(want)) != 0 {
			t.Errorf("the pod has %v, want %s", s.Resources, want)
		}
	}
}

func TestAnInitContainerWaitsForItsSecondRun(t *testing.T) {
	s := Generate(Input{Pod: testPod(nil), Observed: observed("i=exited:0"), Waiting: map[string]actual.Waiting{"i": {Reason: "ErrImagePull"}}, Now: now})
	if got := brief(s.InitContainerStatuses[0]); got != "i ErrImagePull last Completed 0" {
		t.Errorf("%q", got)
	}
}

func TestPodThatHasGotRoomWaitsForNothing(t *testing.T) {
	p := testPod(plain)
	w := Waiting(p, "no cpu")
	if w.Phase != v1.PodPending || w.Reason != WaitingForRoom || w.Message != "no cpu" {
		t.Errorf("%+v", w)
	}
	if s := Generate(Input{Pod: p, Old: w, Now: now}); s.Phase != v1.PodPending || s.Reason != "" || s.Message != "" {
		t.Errorf("%s %q %q", s.Phase, s.Reason, s.Message)
	}
}
