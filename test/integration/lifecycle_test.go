package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// slowToStop takes the seconds to end after SIGTERM, for which it is prepared when
// harness.ReadyOnceTouched has made its pod Ready.
func slowToStop(seconds int) string {
	return fmt.Sprintf("trap 'sleep %d; exit 0' TERM; touch /tmp/ready; while :; do sleep 1 & wait $!; done", seconds)
}

// deaf ignores SIGTERM.
const deaf = "trap '' TERM; while :; do sleep 1; done"

func grace(seconds int64) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = &seconds }
}

func policy(r v1.RestartPolicy) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.RestartPolicy = r }
}

func TestReplacementStartsOnlyWhenTheOldPodIsGone(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	a.Write("web.yaml", harness.Pod("web", slowToStop(3), grace(120), harness.ReadyOnceTouched))
	old := a.WaitRunning("web")
	a.Write("web.yaml", harness.Pod("web", ""))
	fresh := a.WaitPod("web", "runs as a new pod", func(p *v1.Pod) bool { return p.UID != old.UID && harness.Ready(p) })
	checkSuccession(t, a, seen, string(old.UID), string(fresh.UID))
}

func TestReplacementWhileNoAgentRanWaitsForTheOldPod(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	a.Write("web.yaml", harness.Pod("web", slowToStop(3), grace(120), harness.ReadyOnceTouched))
	old := a.WaitRunning("web")
	a.Kill()
	a.Write("web.yaml", harness.Pod("web", ""))
	a.Start()
	fresh := a.WaitPod("web", "runs as a new pod", func(p *v1.Pod) bool { return p.UID != old.UID && harness.Ready(p) })
	checkSuccession(t, a, seen, string(old.UID), string(fresh.UID))
}

// checkSuccession fails unless all of the old pod had died before anything of
// the new one started, and the old one had the time that it asked for.
func checkSuccession(t *testing.T, a *harness.Agent, seen *harness.Events, old, fresh string) {
	t.Helper()
	seen.Wait(2, "start", "web", "c", harness.Patience) // told later than the new pod is Ready, at times
	var lastDeath, firstStart time.Time
	deaths := 0
	for _, e := range seen.Of("die", "web", "") {
		if e.UID == old {
			deaths++
			lastDeath = e.At
			if e.Container == "c" && e.ExitCode != "0" {
				t.Errorf("the old container ended with %s: it was not let to end by itself", e.ExitCode)
			}
		}
	}
	for _, e := range seen.Of("start", "web", "") {
		if e.UID == fresh && firstStart.IsZero() {
			firstStart = e.At
		}
	}
	if deaths != 2 {
		t.Fatalf("%d deaths of the old pod, want sandbox and container\n%s", deaths, a.Explain())
	}
	if firstStart.Before(lastDeath) {
		t.Errorf("the new pod started %v before the old one was gone", lastDeath.Sub(firstStart))
	}
}

func TestTerminationIsGracefulAndBounded(t *testing.T) {
	a, proxy := behindProxy(t)
	seen := harness.WatchEvents(a)
	a.Write("polite.yaml", harness.Pod("polite", "trap 'exit 7' TERM; touch /tmp/ready; while :; do sleep 1 & wait $!; done", grace(30), harness.ReadyOnceTouched))
	a.Write("deaf.yaml", harness.Pod("deaf", deaf, grace(2)))
	a.WaitRunning("polite")
	running := a.WaitRunning("deaf")
	a.Remove("polite.yaml")
	a.Remove("deaf.yaml")

	died := seen.Wait(1, "die", "polite", "c", harness.Patience)[0]
	if died.ExitCode != "7" {
		t.Errorf("the container that handles SIGTERM ended with %s, want 7", died.ExitCode)
	}
	died = seen.Wait(1, "die", "deaf", "c", harness.Patience)[0]
	if died.ExitCode != "137" {
		t.Errorf("the container that ignores SIGTERM ended with %s, want 137", died.ExitCode)
	}
	kills := seen.Of("kill", "deaf", "c")
	if len(kills) < 2 || kills[0].Signal != "15" || kills[len(kills)-1].Signal != "9" {
		t.Fatalf("signals %+v, want 15 and then 9", kills)
	}
	// A busy Docker may be as late as it likes: at most is what it was asked for.
	if given := stopTime(t, proxy, harness.ID(harness.Status(running, "c").ContainerID)); given != 2 {
		t.Errorf("Docker was told to kill it after %d s, want 2", given)
	}
	if took := died.At.Sub(kills[0].At); took < 1900*time.Millisecond {
		t.Errorf("killed %v after SIGTERM, want 2s", took)
	}
	a.WaitGone("polite")
	a.WaitGone("deaf")
}

func TestASlowTerminationHoldsUpNoOtherPod(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	give, _ := diary(t, a)
	a.Write("slow.yaml", harness.Pod("slow", "trap 'until [ -e /diary/go ]; do sleep 0.1; done; exit 0' TERM; touch /tmp/ready; while :; do sleep 1 & wait $!; done",
		grace(600), harness.ReadyOnceTouched, give))
	a.WaitRunning("slow")
	a.Remove("slow.yaml")
	seen.Wait(1, "kill", "slow", "c", harness.Patience)
	if table, stderr, err := a.Run("pods", "--server", "http://"+a.ReadOnly()); err != nil || !regexp.MustCompile(`slow-`+a.Node+`\s+1/1\s+Terminating\s`).MatchString(table) {
		t.Errorf("pods, as one is being stopped: %v %s\n%s", err, stderr, table)
	}
	other := harness.Pod("other", "")
	a.Write("other.yaml", other)
	a.WaitRunning("other")
	if running, err := a.Running("slow"); err != nil || running["c"].ID == "" {
		t.Errorf("the pod that ends slowly had ended before the other one was Ready: %v, %v", running, err)
	}
	goOn(t, a)
	a.WaitGone("slow")
	a.CheckExactly(other)
}

func TestRestartPolicies(t *testing.T) {
	a := start(t)
	pods := map[string]*v1.Pod{
		"never-ok":   harness.Pod("never-ok", "exit 0", policy(v1.RestartPolicyNever)),
		"never-bad":  harness.Pod("never-bad", "exit 3", policy(v1.RestartPolicyNever)),
		"failure-ok": harness.Pod("failure-ok", "exit 0", policy(v1.RestartPolicyOnFailure)),
		"failure":    harness.Pod("failure", "exit 4", policy(v1.RestartPolicyOnFailure)),
		"always":     harness.Pod("always", "exit 0", policy(v1.RestartPolicyAlways)),
	}
	for name, p := range pods {
		a.Write(name+".yaml", p)
	}
	terminated := func(name string, phase v1.PodPhase, code int32, reason string) {
		t.Helper()
		c := harness.Status(a.WaitPhase(name, phase), "c")
		if c.State.Terminated == nil || c.State.Terminated.ExitCode != code || c.State.Terminated.Reason != reason || c.RestartCount != 0 {
			t.Errorf("%s: %+v, want ended with %d %s and not restarted", name, c, code, reason)
		}
	}
	terminated("never-ok", v1.PodSucceeded, 0, "Completed")
	terminated("never-bad", v1.PodFailed, 3, "Error")
	terminated("failure-ok", v1.PodSucceeded, 0, "Completed")
	for name, code := range map[string]int32{"failure": 4, "always": 0} {
		p := a.WaitPod(name, "has been restarted", func(p *v1.Pod) bool { return harness.Status(p, "c").RestartCount >= 1 })
		last := harness.Status(p, "c").LastTerminationState.Terminated
		if last == nil || last.ExitCode != code {
			t.Errorf("%s: last state %+v, want terminated with %d", name, last, code)
		}
	}

	// What has finished stays finished, also for an agent that did not see it
	// finish.
	a.Kill()
	a.Start()
	terminated("never-ok", v1.PodSucceeded, 0, "Completed")
	terminated("never-bad", v1.PodFailed, 3, "Error")
	terminated("failure-ok", v1.PodSucceeded, 0, "Completed")
}

func TestCrashLoopBacksOffFromTenSecondsDoubling(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	a.Write("crash.yaml", harness.Pod("crash", "exit 1"))
	waiting := a.WaitPod("crash", "is in CrashLoopBackOff", func(p *v1.Pod) bool {
		return backsOff(p, "10s")
	})
	if waiting.Status.Phase != v1.PodRunning {
		t.Errorf("phase %s, want Running: the container will run again", waiting.Status.Phase)
	}
	// By the container's own word, since Docker may tell of a death long after it.
	deaths := []time.Time{deathOf(t, a, waiting)}
	for _, pause := range []string{"20s", "40s"} {
		deaths = append(deaths, deathOf(t, a, a.WaitPod("crash", "backs off for "+pause, func(p *v1.Pod) bool { return backsOff(p, pause) })))
	}
	starts := seen.Wait(4, "start", "crash", "c", harness.Patience)
	if len(starts) != 4 {
		t.Fatalf("%d starts before it backs off for 40s, want 4: the first restart is free", len(starts))
	}
	for i, atLeast := range []time.Duration{9500 * time.Millisecond, 19500 * time.Millisecond} {
		pause := starts[i+2].At.Sub(deaths[i])
		t.Logf("restart %d came %v after the death", i+2, pause.Round(time.Millisecond))
		if pause < atLeast {
			t.Errorf("restart %d came %v after the death, want at least %v", i+2, pause, atLeast)
		}
	}
	// All dead containers except the last are collected.
	harness.Eventually(t, "one dead container is kept", 2*harness.Patience, func() error {
		of, err := a.ContainersOf("crash")
		if err != nil {
			return err
		}
		if len(of) > 3 { // the sandbox, the last dead one, and one that may be starting
			return fmt.Errorf("%d containers", len(of))
		}
		return nil
	}, a.Explain)
	eventsOutliveTheAgent(t, a, "crash", "BackOff")
}

// eventsOutliveTheAgent kills the agent of a standalone node once it has told this event of the pod: the next one goes on counting
// it. A reset leaves nothing of it.
func eventsOutliveTheAgent(t *testing.T, a *harness.Agent, pod, reason string) {
	t.Helper()
	find := func() (found v1.Event) {
		r := look(t, a, "", "events", pod, "-o", "json")
		var list v1.EventList
		if err := json.Unmarshal([]byte(r.out), &list); r.code != 0 || err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		for _, e := range list.Items {
			if e.Reason == reason {
				found = e
			}
		}
		return found
	}
	before := find()
	if before.Count == 0 {
		t.Fatalf("there is no event %s of %s", reason, pod)
	}
	harness.Eventually(t, "the event is on disk", harness.Patience, func() error {
		text, err := os.ReadFile(filepath.Join(a.Dir, "root", "mini-kubelet", "events.jsonl"))
		if err == nil && !strings.Contains(string(text), before.Name) {
			err = fmt.Errorf("%s is not in it", before.Name)
		}
		return err
	}, a.Explain)
	a.Kill()
	a.Start()
	if after := find(); after.Name != before.Name || !after.FirstTimestamp.Equal(&before.FirstTimestamp) || after.Count < before.Count || after.LastTimestamp.Before(&before.LastTimestamp) {
		t.Errorf("before the agent was killed: %+v\nafter: %+v", before, after)
	}
	reset(t, a)
	if left, err := filepath.Glob(filepath.Join(a.Dir, "root", "mini-kubelet*")); err != nil || len(left) > 0 {
		t.Errorf("after the reset there is %q", left)
	}
}

// deathOf is when the container that the pod had last ended.
func deathOf(t *testing.T, a *harness.Agent, p *v1.Pod) time.Time {
	t.Helper()
	info, err := a.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(p, "c").ContainerID))
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339Nano, info.State.FinishedAt)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// backsOff reports whether the pod's container waits that long before its next start.
func backsOff(p *v1.Pod, pause string) bool {
	w := harness.Status(p, "c").State.Waiting
	return w != nil && w.Reason == "CrashLoopBackOff" && strings.Contains(w.Message, "back-off "+pause+" restarting failed container=c")
}

func TestInitContainersRunInOrderBeforeTheOthers(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	give, _ := diary(t, a)
	a.Write("init.yaml", harness.Pod("init", "", inits(
		harness.Container("i1", "until [ -e /diary/go ]; do sleep 0.1; done"), harness.Container("i2", "sleep 1")), give))
	p := a.WaitPod("init", "runs its first init container", func(p *v1.Pod) bool { return harness.Status(p, "i1").State.Running != nil })
	if p.Status.Phase != v1.PodPending || condition(p, v1.PodInitialized) != v1.ConditionFalse {
		t.Errorf("phase %s, Initialized %s during init", p.Status.Phase, condition(p, v1.PodInitialized))
	}
	if w := harness.Status(p, "c").State.Waiting; w == nil || w.Reason != "PodInitializing" {
		t.Errorf("container c during init: %+v, want waiting for PodInitializing", harness.Status(p, "c").State)
	}
	goOn(t, a)
	p = a.WaitRunning("init")
	if condition(p, v1.PodInitialized) != v1.ConditionTrue {
		t.Error("not Initialized")
	}
	for _, name := range []string{"i1", "i2"} {
		if s := harness.Status(p, name).State.Terminated; s == nil || s.Reason != "Completed" {
			t.Errorf("init container %s: %+v, want Completed", name, harness.Status(p, name).State)
		}
	}
	seen.Wait(1, "start", "init", "c", harness.Patience)
	order := []harness.Event{}
	for _, e := range seen.Of("", "init", "") {
		if e.Container != harness.Sandbox && (e.Action == "start" || e.Action == "die") {
			order = append(order, e)
		}
	}
	var got []string
	for _, e := range order {
		got = append(got, e.Action+" "+e.Container)
	}
	if want := "start i1, die i1, start i2, die i2, start c"; strings.Join(got, ", ") != want {
		t.Errorf("order %v, want %s", got, want)
	}

	// A restarted agent does not run them again.
	a.Kill()
	a.Start()
	a.WaitRunning("init")
	if n := len(seen.Of("start", "init", "i1")); n != 1 {
		t.Errorf("init container ran %d times over a restart of the agent", n)
	}
}

func TestFailingInitContainer(t *testing.T) {
	a := start(t)
	fail := func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{harness.Container("i", "exit 5")} }
	seen := harness.WatchEvents(a)
	a.Write("never.yaml", harness.Pod("never", "", policy(v1.RestartPolicyNever), fail))
	a.Write("always.yaml", harness.Pod("always", "", fail))
	p := a.WaitPhase("never", v1.PodFailed)
	if s := harness.Status(p, "i").State.Terminated; s == nil || s.ExitCode != 5 {
		t.Errorf("init container: %+v, want ended with 5", harness.Status(p, "i").State)
	}
	p = a.WaitPod("always", "retries its init container", func(p *v1.Pod) bool { return harness.Status(p, "i").RestartCount >= 1 })
	if p.Status.Phase != v1.PodPending {
		t.Errorf("phase %s, want Pending", p.Status.Phase)
	}
	for _, pod := range []string{"never", "always"} {
		if n := len(seen.Of("start", pod, "c")); n != 0 {
			t.Errorf("the container of pod %s was started though init failed", pod)
		}
	}
}

func condition(p *v1.Pod, kind v1.PodConditionType) v1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}
