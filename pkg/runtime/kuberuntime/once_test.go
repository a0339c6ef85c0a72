package kuberuntime

import (
	"cmp"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// has gives the pod a status that says of containers "c1=running", "c1=exited:1" or
// "c1=created" what was known of them before.
func has(before ...string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		for _, c := range observed(nil, before...).Containers {
			s := v1.ContainerStatus{Name: c.Name, ContainerID: c.ID.String()}
			switch c.State {
			case actual.StateRunning:
				s.State.Running = &v1.ContainerStateRunning{}
			case actual.StateExited:
				s.State.Terminated = &v1.ContainerStateTerminated{ExitCode: c.ExitCode}
			default:
				s.State.Waiting = &v1.ContainerStateWaiting{}
			}
			if pods.IsInit(p, c.Name) {
				p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, s)
			} else {
				p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s)
			}
		}
	}
}

// TestSecondRuns is the table of docs/decisions/never-runs-twice.md: what a kubelet of
// 1.36 does and what we do. Nothing of an "over" pod is started any more, and it
// fails.
func TestSecondRuns(t *testing.T) {
	never, always, failing := v1.RestartPolicyNever, v1.RestartPolicyAlways, v1.RestartPolicyOnFailure
	ownNever, ownAlways := v1.ContainerRestartPolicyNever, v1.ContainerRestartPolicyAlways
	const nothing = "nothing"
	for name, tc := range map[string]struct {
		pod     func(*v1.Pod)
		seen    *actual.PodStatus
		kubelet string
		ours    string // "" for the kubelet's
		over    bool
	}{
		// The sandbox is dead, the pod's policy is Never.
		"nothing was made":                {policy(never), observed(one(0, false)), "pod, sandbox 1, init i1", "", false},
		"init 1 of 2 runs":                {policy(never), observed(one(0, false), "i1=running"), "pod", "", true},
		"init 1 of 2 is done":             {policy(never), observed(one(0, false), "i1=exited:0"), "pod", "", true},
		"init 1 of 2 has failed":          {policy(never), observed(one(0, false), "i1=exited:1"), "pod", "", true},
		"all init containers are done":    {policy(never), observed(one(0, false), "i2=exited:0", "i1=exited:0"), "pod", "", true},
		"one of two runs":                 {policy(never, plain), observed(one(0, false), "c1=running"), "pod", "", true},
		"one of two has ended well":       {policy(never, plain), observed(one(0, false), "c1=exited:0"), "pod", "", true},
		"all run":                         {policy(never, plain), observed(one(0, false), "c1=running", "c2=running"), "pod", "", true},
		"all have ended":                  {policy(never, plain), observed(one(0, false), "c1=exited:0", "c2=exited:1"), "pod", "", true},
		"one is created":                  {policy(never, plain), observed(one(0, false), "c1=created"), "pod", "", true},
		"one is in an unknown state":      {policy(never, plain), observed(one(0, false), "c1=unknown"), "pod", "", true},
		"a sidecar runs":                  {policy(never, withSidecar), observed(one(0, false), "i1=running"), "pod", "", true},
		"another's own policy is Always":  {policy(never, plain, ownPolicy("c2", ownAlways)), observed(one(0, false), "c1=exited:137", "c2=exited:137"), "pod", "", true},
		"its own rule meets":              {policy(never, plain, ownPolicy("c2", ownNever, 137)), observed(one(0, false), "c1=exited:137", "c2=exited:137"), "pod", "", true},
		"the sandbox is gone":             {policy(never, plain), observed(nil, "c1=running"), "pod, sandbox 0, start c1, start c2", "pod", true},
		"all is gone":                     {policy(never, plain, has("c1=running")), observed(nil), "pod, sandbox 0, start c1, start c2", "pod", true},
		"all containers are gone":         {policy(never, plain, has("c1=exited:0")), observed(one(0, false)), "pod, sandbox 1, start c1, start c2", "pod", true},
		"all is gone, only created":       {policy(never, plain, has("c1=created")), observed(nil), "pod, sandbox 0, start c1, start c2", "", false},
		"all is gone and nobody knows it": {policy(never, plain), observed(nil), "pod, sandbox 0, start c1, start c2", "", false},

		// The sandbox is dead, the pod's policy is another.
		"own Never runs":              {policy(always, plain, ownPolicy("c1", ownNever)), observed(one(0, false), "c1=running", "c2=running"), "pod, sandbox 1, start c1, start c2", "pod, sandbox 1, start c2", false},
		"own Never has ended":         {policy(always, plain, ownPolicy("c1", ownNever)), observed(one(0, false), "c1=exited:0", "c2=running"), "pod, sandbox 1, start c1, start c2", "pod, sandbox 1, start c2", false},
		"own Never is gone":           {policy(always, plain, ownPolicy("c1", ownNever), has("c1=exited:0")), observed(one(0, false), "c2=running"), "pod, sandbox 1, start c1, start c2", "pod, sandbox 1, start c2", false},
		"own Never is created":        {policy(always, plain, ownPolicy("c1", ownNever)), observed(one(0, false), "c1=created", "c2=running"), "pod, sandbox 1, start c1, start c2", "", false},
		"own Never, its rule meets":   {policy(always, plain, ownPolicy("c1", ownNever, 137)), observed(one(0, false), "c1=exited:137", "c2=running"), "pod, sandbox 1, start c1, start c2", "", false},
		"all are own Never":           {policy(always, plain, ownPolicy("c1", ownNever), ownPolicy("c2", ownNever)), observed(one(0, false), "c1=running", "c2=exited:0"), "pod, sandbox 1, start c1, start c2", "pod", false},
		"init of own Never is done":   {policy(always, ownPolicy("i1", ownNever)), observed(one(0, false), "c1=running", "c2=running", "i2=exited:0", "i1=exited:0"), "pod, sandbox 1, init i1", "pod", true},
		"init of own Never made none": {policy(always, ownPolicy("i2", ownNever)), observed(one(0, false), "i1=running"), "pod, sandbox 1, init i1", "", false},
		"OnFailure, one is done":      {policy(failing, plain), observed(one(0, false), "c1=exited:0", "c2=running"), "pod, sandbox 1, start c2", "", false},
		"OnFailure, it is gone":       {policy(failing, plain, has("c1=exited:0")), observed(one(0, false), "c2=running"), "pod, sandbox 1, start c1, start c2", "pod, sandbox 1, start c2", false},
		"OnFailure, init again":       {policy(failing), observed(one(0, false), "c1=running", "i2=exited:0", "i1=exited:0"), "pod, sandbox 1, init i1", "", false},

		// The sandbox lives, the pod's policy is Never.
		"live: one is to come":              {policy(never, plain), observed(one(0, true), "c1=exited:0"), "start c2", "", false},
		"live: one is created":              {policy(never, plain), observed(one(0, true), "c1=created", "c2=running"), "start c1", "", false},
		"live: init is created":             {policy(never), observed(one(0, true), "i1=created"), "init i1", "", false},
		"live: one is unknown":              {policy(never, plain), observed(one(0, true), "c1=unknown", "c2=running"), "kill c1, start c1", "kill c1", false},
		"live: init is unknown":             {policy(never), observed(one(0, true), "i1=unknown"), "pod", "", false},
		"live: one that ran is gone":        {policy(never, plain, has("c1=running")), observed(one(0, true), "c2=running"), "start c1", nothing, false},
		"live: one that was done is gone":   {policy(never, plain, has("c1=exited:0")), observed(one(0, true), "c2=running"), "start c1", nothing, false},
		"live: init that was done is gone":  {policy(never, has("i1=exited:0")), observed(one(0, true)), "init i1", "init i2", false},
		"live: init that ran is gone":       {policy(never, has("i1=running")), observed(one(0, true)), "init i1", "pod", false},
		"live: all that ran are gone":       {policy(never, plain, has("c1=running", "c2=exited:0")), observed(one(0, true)), "start c1, start c2", "pod", false},
		"live: the sidecar is gone":         {policy(never, withSidecar, has("i1=running")), observed(one(0, true), "c1=running", "c2=running", "i2=exited:0"), "init i1", "", false},
		"live: OnFailure, done and gone":    {policy(failing, plain, has("c1=exited:0")), observed(one(0, true), "c2=running"), "start c1", nothing, false},
		"live: OnFailure, failed and gone":  {policy(failing, plain, has("c1=exited:1")), observed(one(0, true), "c2=running"), "start c1", "", false},
		"live: own Never is unknown":        {policy(always, plain, ownPolicy("c1", ownNever)), observed(one(0, true), "c1=unknown", "c2=running"), "kill c1, start c1", "kill c1", false},
		"live: all removed to start again":  {policy(never, plain, restartingAll("c1", 42), removedToStart("c1", "c2")), observed(one(0, true)), "start c1, start c2", "", false},
		"dead: all removed to start again":  {policy(never, plain, restartingAll("c1", 42), removedToStart("c1", "c2")), observed(one(0, false)), "pod, sandbox 1, start c1, start c2", "", false},
		"dead: one asks for all to restart": {policy(never, plain, restartingAll("c1", 42)), observed(one(0, false), "c1=exited:42", "c2=running"), "pod, sandbox 1, reset c2, reset c1", "reset c2, reset c1", false},
	} {
		t.Run(name, func(t *testing.T) {
			want := cmp.Or(tc.ours, tc.kubelet)
			pod := testPod(tc.pod)
			if got := cmp.Or(said(computeActions(pod, tc.seen, verdicts{})), nothing); got != want {
				t.Errorf("actions: %q, want %q", got, want)
			}
			if got := Over(pod, tc.seen); got != tc.over {
				t.Errorf("over: %v, want %v", got, tc.over)
			}
			gone := pod.DeepCopy()
			gone.DeletionTimestamp = &pod.CreationTimestamp
			if Over(gone, tc.seen) {
				t.Error("over while being deleted: it ends anyway, and not as failed")
			}
		})
	}
}

// removedToStart is the status of containers that were removed by a rule that restarts
// all: they have not ended for good.
func removedToStart(names ...string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		for _, name := range names {
			s := v1.ContainerStatus{Name: name}
			s.LastTerminationState.Terminated = &v1.ContainerStateTerminated{Reason: ReasonRestartingAll, ExitCode: ExitUnknown}
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s)
		}
	}
}
