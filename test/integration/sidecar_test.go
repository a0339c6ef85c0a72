package integration

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// sidecar is a restartable init container.
func sidecar(name, script string) v1.Container {
	c := harness.Container(name, script)
	always := v1.ContainerRestartPolicyAlways
	c.RestartPolicy = &always
	return c
}

func inits(cs ...v1.Container) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.InitContainers = cs }
}

func TestSidecarsStartFirstAndStopLastInReverse(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	s1 := sidecar("s1", untilTerm("s1"))
	s1.Lifecycle = &v1.Lifecycle{PostStart: run(onceSaid("s1") + "sleep 1; echo s1-post >> /diary/log")}
	s2 := sidecar("s2", untilTerm("s2"))
	s2.StartupProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: run(onceSaid("s2")).Exec}, PeriodSeconds: 1, TimeoutSeconds: 60}
	a.Write("web.yaml", harness.Pod("web", untilTerm("c"), grace(120),
		inits(s1, harness.Container("i", "sleep 1; echo i >> /diary/log"), s2), give,
		func(p *v1.Pod) {
			p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: run("sleep 2")} // the sidecars' signal waits for it
		}))
	p := a.WaitRunning("web")
	for _, name := range []string{"s1", "s2"} {
		if s := harness.Status(p, name); s.State.Running == nil || !s.Ready || s.Started == nil || !*s.Started {
			t.Errorf("sidecar %s: %+v, want running, started and ready", name, s)
		}
	}
	wrote(t, a, read, "s1 s1-post i s2 c")
	a.Remove("web.yaml")
	a.WaitGone("web")
	wrote(t, a, read, "s1 s1-post i s2 c c-term s2-term s1-term")
}

func TestSidecarThatEndsIsRestartedBesideTheOthers(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	// Never is the policy of the pod, not of its sidecar.
	a.Write("web.yaml", harness.Pod("web", "", policy(v1.RestartPolicyNever), inits(sidecar("s", ""))))
	a.WaitRunning("web")
	before, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), before["s"].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	p := a.WaitPod("web", "has restarted its sidecar", func(p *v1.Pod) bool {
		s := harness.Status(p, "s")
		return s.RestartCount == 1 && s.State.Running != nil && harness.Ready(p)
	})
	seen.Wait(2, "start", "web", "s", harness.Patience)
	if p.Status.Phase != v1.PodRunning || len(seen.Of("start", "web", "c")) != 1 {
		t.Errorf("phase %s, container c started %d times", p.Status.Phase, len(seen.Of("start", "web", "c")))
	}
	// Nor is it only this agent that knows.
	a.Kill()
	after, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), after["s"].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	a.Start()
	a.WaitPod("web", "has restarted its sidecar again", func(p *v1.Pod) bool {
		s := harness.Status(p, "s")
		return s.RestartCount == 2 && s.State.Running != nil && harness.Ready(p)
	})
	seen.Wait(3, "start", "web", "s", harness.Patience)
	if n := len(seen.Of("start", "web", "c")); n != 1 {
		t.Errorf("container c started %d times", n)
	}
}

func TestPodCompletesThoughItsSidecarsRun(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	for name, tc := range map[string]struct {
		policy v1.RestartPolicy
		script string
		phase  v1.PodPhase
	}{
		"well":   {v1.RestartPolicyOnFailure, "exit 0", v1.PodSucceeded},
		"failed": {v1.RestartPolicyNever, "exit 3", v1.PodFailed},
	} {
		a.Write(name+".yaml", harness.Pod(name, onceSaid(name)+tc.script, grace(120), policy(tc.policy), inits(sidecar("s", untilTerm(name))), give))
		p := a.WaitPod(name, "is done with all its containers", func(p *v1.Pod) bool {
			return p.Status.Phase == tc.phase && harness.Status(p, "s").State.Terminated != nil
		})
		// It was allowed to end by itself, and its own end does not count.
		if s := harness.Status(p, "s").State.Terminated; s.ExitCode != 0 {
			t.Errorf("%s: sidecar ended with %+v", name, s)
		}
	}
	if said := read(); !strings.Contains(said, "well-term") || !strings.Contains(said, "failed-term") {
		t.Errorf("the diary says %q", said)
	}
	if left, err := a.Running("well"); err != nil || len(left) > 0 {
		t.Errorf("still running: %v %v", left, err)
	}
}

func TestSidecarsHaveWhatIsLeftOfTheGracePeriod(t *testing.T) {
	a, proxy := behindProxy(t)
	seen := harness.WatchEvents(a)
	a.Write("web.yaml", harness.Pod("web", deaf, grace(4), inits(sidecar("s", deaf))))
	p := a.WaitRunning("web")
	removed := time.Now()
	a.Remove("web.yaml")
	seen.Wait(1, "die", "web", "c", harness.Patience)
	end := seen.Wait(1, "die", "web", "s", harness.Patience)[0]
	asked, term := seen.Of("kill", "web", "c"), seen.Of("kill", "web", "s")[0]
	killed := asked[len(asked)-1]
	if asked[0].Signal != "15" || killed.Signal != "9" || term.Signal != "15" {
		t.Errorf("the container had the signals %s and %s, the sidecar %s first", asked[0].Signal, killed.Signal, term.Signal)
	}
	// Docker tells of signals late where it is busy, so what counts is when it was asked. The 4 s
	// begin after the removal and before the container's stop is asked for, wherever the machine is
	// busy: the first bound holds to the letter. Docker gives the container what it was asked for.
	first, second := stopCall(t, proxy, harness.ID(harness.Status(p, "c").ContainerID)).At, stopCall(t, proxy, harness.ID(harness.Status(p, "s").ContainerID)).At
	asks := time.Duration(stopTime(t, proxy, harness.ID(harness.Status(p, "c").ContainerID))) * time.Second
	if second.Sub(removed) < 4*time.Second || second.Sub(first) < asks-100*time.Millisecond {
		t.Errorf("the sidecar's stop was asked for %v after the removal and %v after that of the other", second.Sub(removed), second.Sub(first))
	}
	for c, most := range map[string]int{"c": 4, "s": 2} {
		if given := stopTime(t, proxy, harness.ID(harness.Status(p, c).ContainerID)); given < 2 || given > most {
			t.Errorf("container %s was given %d s, want %d", c, given, most)
		}
	}
	if took := end.At.Sub(term.At); took < 1900*time.Millisecond {
		t.Errorf("the sidecar was killed %v after its signal, want 2s", took)
	}
	a.WaitGone("web")
}
