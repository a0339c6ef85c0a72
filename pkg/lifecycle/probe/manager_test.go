package probe

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := podOf(v1.Container{ReadinessProbe: command("r", func(p *v1.Probe) { p.FailureThreshold = 2 })})
		w.Sync(pod, runs("1", time.Now()), nothing)
		if w.Ready(actual.ContainerID{Runtime: "test", ID: "1"}) {
			t.Error("ready before anybody asked")
		}
		w.wantRuns("r@0")
		w.wantVerdict("1", "started ready")
		if n := w.told(); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		w.say("r", "bad")
		after(10 * time.Second)
		w.wantRuns("r@10")
		w.wantVerdict("1", "started ready")
		w.wantEvents("Unhealthy: Readiness probe failed: it is bad")
		after(10 * time.Second)
		w.wantVerdict("1", "started")
		w.wantEvents("Unhealthy: Readiness probe failed: it is bad")
		w.say("r", "ok")
		after(10 * time.Second)
		w.wantVerdict("1", "started ready")
		if n := w.told(); n != 2 {
			t.Errorf("told %d times, want at each change", n)
		}
		w.wantRuns("r@20", "r@30")
	})
}

func TestLivenessFailureHoldsUntilTheNextContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := podOf(v1.Container{LivenessProbe: command("l", func(p *v1.Probe) { p.InitialDelaySeconds = 5; p.FailureThreshold = 2 })})
		w.say("l", "bad")
		w.Sync(pod, runs("1", time.Now()), nothing)
		w.wantVerdict("1", "started ready")
		after(time.Minute)
		w.wantRuns("l@5", "l@15")
		w.wantVerdict("1", "started ready liveness")
		if n := w.told(); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		w.say("l", "ok")
		w.Sync(pod, runs("2", time.Now()), nothing)
		w.wantVerdict("1", "started ready") // forgotten
		w.wantVerdict("2", "started ready")
		after(20 * time.Second)
		w.wantRuns("l@65", "l@75")
		w.wantVerdict("2", "started ready")
	})
}

func TestOthersWaitForStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := podOf(v1.Container{
			StartupProbe: command("s", func(p *v1.Probe) { p.PeriodSeconds = 2; p.FailureThreshold = 5 }), ReadinessProbe: command("r"),
			LivenessProbe: command("l", func(p *v1.Probe) { p.InitialDelaySeconds = 7 }),
		})
		w.say("s", "bad")
		w.Sync(pod, runs("1", time.Now()), nothing)
		after(3 * time.Second)
		w.wantVerdict("1", "")
		w.wantRuns("s@0", "s@2")
		w.say("s", "ok")
		after(9 * time.Second)
		w.wantVerdict("1", "started ready")
		w.wantRuns("s@4", "r@4", "l@7")
		if n := w.told(); n != 2 {
			t.Errorf("told %d times, want of startup and readiness", n)
		}
	})
}

func TestStartupFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.say("s", "bad")
		w.Sync(podOf(v1.Container{StartupProbe: command("s")}), runs("1", time.Now()), nothing)
		after(time.Minute)
		w.wantRuns("s@0", "s@10", "s@20")
		w.wantVerdict("1", "ready startup")
	})
}

func TestATimeoutIsAFailureAndAnErrorIsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := podOf(v1.Container{LivenessProbe: command("l", func(p *v1.Probe) { p.FailureThreshold = 1; p.TimeoutSeconds = 15 })})
		w.say("l", "broken")
		w.Sync(pod, runs("1", time.Now()), nothing)
		after(time.Second)
		w.wantRuns("l@0", "l@0", "l@0")
		w.wantVerdict("1", "started ready")
		w.wantEvents("Unhealthy: Liveness probe errored and resulted in unknown state: the runtime has failed")
		w.say("l", "hang")
		after(23 * time.Second)
		w.wantVerdict("1", "started ready")
		after(time.Second)
		w.wantRuns("l@10")
		w.wantVerdict("1", "started ready liveness")
		w.wantEvents(`Unhealthy: Liveness probe failed: command timed out: "l" timed out after 15s`)
	})
}

func TestAProbeThatTakesLongerThanItsPeriodIsRunAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.say("r", "hang")
		pod := podOf(v1.Container{ReadinessProbe: command("r", func(p *v1.Probe) { p.PeriodSeconds = 1; p.TimeoutSeconds = 4 })})
		w.Sync(pod, runs("1", time.Now()), nothing)
		after(9 * time.Second)
		w.wantRuns("r@0", "r@4", "r@8")
	})
}

func TestWhatIsGoneIsNotProbed(t *testing.T) {
	for name, end := range map[string]func(w *world, pod *v1.Pod){
		"the container ends": func(w *world, pod *v1.Pod) { w.Sync(pod, &actual.PodStatus{}, nothing) },
		"the pod is removed": func(w *world, pod *v1.Pod) { w.Remove(pod.UID) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.say("l", "hang")
				pod := podOf(v1.Container{LivenessProbe: command("l", func(p *v1.Probe) { p.FailureThreshold = 1 }), ReadinessProbe: command("r")})
				w.Sync(pod, runs("1", time.Now()), nothing)
				after(500 * time.Millisecond)
				w.told()
				end(w, pod)
				after(time.Minute)
				w.mu.Lock()
				if len(w.ran) != 2 {
					t.Errorf("ran %q, want one run of each", w.ran)
				}
				w.mu.Unlock()
				w.wantEvents()
				if n := w.told(); n != 0 {
					t.Error("told of a container that is gone")
				}
				if len(w.pods)+len(w.containers)+w.due.Len() != 0 {
					t.Errorf("still knows %v, %v, %v", w.pods, w.containers, w.due.Len())
				}
			})
		})
	}
}

func TestATerminatingPodIsProbedForReadinessOnly(t *testing.T) {
	for name, end := range map[string]func(w *world, pod *v1.Pod){
		"deleted": func(w *world, pod *v1.Pod) {
			pod = pod.DeepCopy()
			pod.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			w.Sync(pod, runs("1", w.begun), nothing)
		},
		"stopped": func(w *world, pod *v1.Pod) { w.Quiet(pod.UID) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.say("l", "bad")
				pod := podOf(v1.Container{LivenessProbe: command("l", func(p *v1.Probe) { p.FailureThreshold = 1 }), ReadinessProbe: command("r", func(p *v1.Probe) { p.InitialDelaySeconds = 1 })})
				w.Sync(pod, runs("1", time.Now()), nothing)
				after(5 * time.Second)
				w.wantVerdict("1", "started ready liveness")
				w.wantRuns("l@0", "r@1")
				end(w, pod)
				w.say("r", "bad")
				after(36 * time.Second)
				w.wantRuns("r@11", "r@21", "r@31", "r@41")
				w.wantVerdict("1", "started")
			})
		})
	}
}

// ranBefore makes a world whose container ran a minute before it, and what is known.
func ranBefore(w *world, c v1.Container, known *v1.ContainerStatus) {
	old := v1.PodStatus{}
	if known != nil {
		known.Name, known.ContainerID, known.State.Running = "c", "test://1", &v1.ContainerStateRunning{}
		old.ContainerStatuses = []v1.ContainerStatus{*known}
	}
	w.Sync(podOf(c), runs("1", w.begun.Add(-time.Minute)), func() v1.PodStatus { return old })
}

func TestARestartedAgentTakesNothingOutOfService(t *testing.T) {
	yes, no := true, false
	probes := v1.Container{ReadinessProbe: command("r"), StartupProbe: command("s")}
	for name, tc := range map[string]struct {
		known       *v1.ContainerStatus
		bad         string // command that fails
		first, then string // verdict before the first run, and half a minute later
	}{
		"nothing is known, and all is well":        {nil, "", "started ready", "started ready"},
		"nothing is known, and it is not ready":    {nil, "r", "started ready", "started"},
		"nothing is known, and it has not started": {nil, "s", "started ready", "startup"},
		"it was ready": {&v1.ContainerStatus{Started: &yes, Ready: true}, "", "started ready", "started ready"},
		"it was ready, and its startup is not over": {&v1.ContainerStatus{Started: &yes, Ready: true}, "s", "started ready", "started ready"},
		"it was not ready":                          {&v1.ContainerStatus{Started: &yes}, "r", "started", "started"},
		"it had not started":                        {&v1.ContainerStatus{Started: &no}, "", "", "started ready"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.say(tc.bad, "bad")
				ranBefore(w, probes, tc.known)
				if got := w.verdict("1"); got != tc.first {
					t.Errorf("at first %q, want %q", got, tc.first)
				}
				after(35 * time.Second)
				w.wantVerdict("1", tc.then)
			})
		})
	}
}

func TestOnlyProbesOfOldContainersAreSpread(t *testing.T) {
	start := time.Now()
	p := command("x")
	late := 0
	for range 100 {
		at := first(p, start.Add(-time.Hour), start, start)
		if at.Before(start) || !at.Before(start.Add(10*time.Second)) {
			t.Fatalf("first run at %v", at.Sub(start))
		}
		if at.After(start.Add(5 * time.Second)) {
			late++
		}
	}
	if late == 0 || late == 100 {
		t.Errorf("%d of 100 in the second half of the period", late)
	}
	if at := first(p, start.Add(time.Second), start, start.Add(2*time.Second)); at != start.Add(2*time.Second) {
		t.Errorf("a new container waits %v", at.Sub(start))
	}
	if at := first(p, start.Add(-time.Hour), start, start.Add(time.Minute)); at != start.Add(time.Minute) {
		t.Errorf("an old container that an old agent finds waits %v", at.Sub(start))
	}
}

func TestSidecarsAreProbedAndPlainInitContainersAreNot(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	pod := podOf(v1.Container{})
	seen := runs("1", time.Now())
	for _, c := range []v1.Container{{Name: "plain"}, {Name: "side", RestartPolicy: &always}} {
		c.StartupProbe = command("x")
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		seen.Containers = append(seen.Containers, &actual.ContainerStatus{Name: c.Name, State: actual.StateRunning})
	}
	var names []string
	each(pod, seen, func(c *v1.Container, _ *actual.ContainerStatus) { names = append(names, c.Name) })
	if !slices.Equal(names, []string{"side"}) {
		t.Errorf("probes %q", names)
	}
}

// The keeper of the last status may ask for a verdict while it holds a lock.
func TestTheLastStatusIsAskedForOnceAndNotUnderTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		asked := 0
		for range 3 {
			w.Sync(podOf(v1.Container{ReadinessProbe: command("r")}), runs("1", w.begun), func() v1.PodStatus {
				asked++
				w.Verdict(actual.ContainerID{Runtime: "test", ID: "1"})
				return v1.PodStatus{}
			})
		}
		if asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
	})
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Exec") {
		t.Errorf("error %v", err)
	}
}
