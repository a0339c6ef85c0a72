package integration

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func run(script string) *v1.LifecycleHandler {
	return &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"/bin/sh", "-c", script}}}
}

// diary gives a container of the pod the directory /diary, and returns its place
// on the host and a reader of what was written to its file "log".
func diary(t *testing.T, a *harness.Agent) (give func(*v1.Pod), read func() string) {
	t.Helper()
	dir := filepath.Join(a.Dir, "diary")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	give = func(p *v1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: "diary", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}}})
		for _, list := range [][]v1.Container{p.Spec.Containers, p.Spec.InitContainers} {
			for i := range list {
				list[i].VolumeMounts = append(list[i].VolumeMounts, v1.VolumeMount{Name: "diary", MountPath: "/diary"})
			}
		}
	}
	read = func() string {
		b, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(b)), " ")
	}
	return give, read
}

// goOn makes /diary/go, for which scripts wait that the test ends.
func goOn(t *testing.T, a *harness.Agent) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(a.Dir, "diary", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// onceSaid waits in a container until its pod has written that line.
func onceSaid(line string) string {
	return fmt.Sprintf("until grep -qsx %s /diary/log; do sleep 0.1; done; ", line)
}

// wrote waits until the diary says exactly that.
func wrote(t *testing.T, a *harness.Agent, read func() string, want string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("the diary says %q", want), harness.Patience, func() error {
		if got := read(); got != want {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	}, a.Explain)
}

// untilTerm runs until SIGTERM, writes its name and ends.
func untilTerm(name string) string {
	return fmt.Sprintf("trap 'echo %[1]s-term >> /diary/log; exit 0' TERM; echo %[1]s >> /diary/log; while :; do sleep 1 & wait $!; done", name)
}

func TestHooksRunAroundTheContainersLife(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	a.Write("web.yaml", harness.Pod("web", untilTerm("c"), grace(120), func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{
			PostStart: run(onceSaid("c") + "sleep 1; echo post >> /diary/log"),
			PreStop:   run("echo pre >> /diary/log; sleep 1; echo done >> /diary/log"),
		}
		p.Spec.Containers = append(p.Spec.Containers, harness.Container("second", untilTerm("second")))
		p.Spec.Containers[1].Lifecycle = &v1.Lifecycle{PreStop: run(onceSaid("c-term"))}
	}, give))
	a.WaitRunning("web")
	wrote(t, a, read, "c post second") // the second container starts when the first one's hook is done
	a.Remove("web.yaml")
	a.WaitGone("web")
	wrote(t, a, read, "c post second pre done c-term second-term")
}

func TestFailingPostStartHookStopsAndRestartsTheContainer(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	a.Write("web.yaml", harness.Pod("web", untilTerm("c"), grace(120), func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: run("test -e /diary/good || { " + onceSaid("c") + "touch /diary/good; exit 3; }")}
	}, give))
	p := a.WaitRunning("web")
	wrote(t, a, read, "c c-term c")
	if s := harness.Status(p, "c"); s.RestartCount != 1 || s.LastTerminationState.Terminated == nil {
		t.Errorf("status %+v, want restarted once", s)
	}
}

func TestPostStartHookThatAlwaysFails(t *testing.T) {
	a := start(t)
	for name, h := range map[string]*v1.LifecycleHandler{
		"exec": run("echo because >&2; exit 3"),
		"tcp":  {TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(80)}},
		"http": {HTTPGet: &v1.HTTPGetAction{Path: "/", Port: intstr.FromString("none")}},
	} {
		a.Write(name+".yaml", harness.Pod(name, untilTerm("c"), policy(v1.RestartPolicyNever), func(p *v1.Pod) {
			p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: h}
		}))
		a.WaitPod(name, "has ended", func(p *v1.Pod) bool {
			return harness.Status(p, "c").State.Terminated != nil && p.Status.Phase != v1.PodRunning
		})
	}
	// Its second attempt, after which it is told to back off, comes to no end before its first has been seen.
	give, _ := diary(t, a)
	a.Write("always.yaml", harness.Pod("always", "", give, func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: run("test ! -e /diary/once || until test -e /diary/go; do sleep 0.1; done; touch /diary/once; echo because >&2; exit 3")}
	}))
	p := a.WaitPod("always", "waits for its next start", func(p *v1.Pod) bool {
		w := harness.Status(p, "c").State.Waiting
		return w != nil && w.Reason == "PostStartHookError"
	})
	goOn(t, a)
	if m := harness.Status(p, "c").State.Waiting.Message; !strings.Contains(m, "exited with 3") || !strings.Contains(m, "because") {
		t.Errorf("message %q", m)
	}
	if log := a.Log(); !strings.Contains(log, "FailedPostStartHook") {
		t.Error("no event FailedPostStartHook")
	}
}

// stopTime is how many seconds Docker was asked to give the container.
func stopTime(t *testing.T, proxy *harness.Proxy, id string) int {
	t.Helper()
	call := stopCall(t, proxy, id)
	query, err := url.ParseQuery(call.Query)
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.Atoi(query.Get("t"))
	if err != nil {
		t.Fatalf("%s?%s: %v", call, call.Query, err)
	}
	return seconds
}

// stopCall returns the call that asked Docker to stop the container.
func stopCall(t *testing.T, proxy *harness.Proxy, id string) harness.Call {
	t.Helper()
	for _, call := range proxy.Calls() {
		if call.Path == "/containers/"+id+"/stop" {
			return call
		}
	}
	t.Fatalf("Docker was not asked to stop container %s", id)
	return harness.Call{}
}

func TestPreStopHookAndSignalShareTheGracePeriod(t *testing.T) {
	a, proxy := behindProxy(t)
	seen := harness.WatchEvents(a)
	hooked := func(h *v1.LifecycleHandler) func(*v1.Pod) {
		return func(p *v1.Pod) { p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: h} }
	}
	a.Write("short.yaml", harness.Pod("short", deaf, grace(6), hooked(&v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 2}})))
	a.Write("long.yaml", harness.Pod("long", deaf, grace(3), hooked(run("sleep 1000"))))
	a.Write("fails.yaml", harness.Pod("fails", slowToStop(0), grace(120), harness.ReadyOnceTouched, hooked(run("exit 1"))))
	for _, name := range []string{"short", "long", "fails"} {
		a.WaitRunning(name)
	}
	begun, ids := map[string]time.Time{}, map[string]string{}
	for _, name := range []string{"short", "long", "fails"} {
		ids[name] = harness.ID(harness.Status(a.Pod(name), "c").ContainerID)
		begun[name] = time.Now()
		a.Remove(name + ".yaml")
	}
	// The hook uses up the signal's time, of which two seconds always remain.
	for name, want := range map[string]struct{ hook, left int }{"short": {2, 4}, "long": {3, 2}} {
		died := seen.Wait(1, "die", name, "c", harness.Patience)[0]
		kills := seen.Of("kill", name, "c")
		if len(kills) < 2 || kills[0].Signal != "15" || died.ExitCode != "137" {
			t.Fatalf("%s: signals %+v, ended with %s", name, kills, died.ExitCode)
		}
		if term := kills[0].At.Sub(begun[name]).Seconds(); term < float64(want.hook)-0.1 {
			t.Errorf("%s: SIGTERM after %.1fs, want the hook's %d first", name, term, want.hook)
		}
		if left := stopTime(t, proxy, ids[name]); left < 2 || left > want.left {
			t.Errorf("%s: the container was given %d s after its hook, want %d or, on a busy machine, less", name, left, want.left)
		}
	}
	if died := seen.Wait(1, "die", "fails", "c", harness.Patience)[0]; died.ExitCode != "0" {
		t.Errorf("a failing hook kept the container from ending well: %s", died.ExitCode)
	}
	if log := a.Log(); !strings.Contains(log, "FailedPreStopHook") {
		t.Error("no event FailedPreStopHook")
	}
}

func TestPreStopHookOfAPodThatOnlyTheRuntimeKnows(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	a.Write("web.yaml", harness.Pod("web", untilTerm("c"), grace(120), give, func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: run("echo pre >> /diary/log; sleep 1")}
	}))
	a.WaitRunning("web")
	wrote(t, a, read, "c")
	a.Kill()
	a.Remove("web.yaml")
	a.Start()
	a.WaitGone("web")
	wrote(t, a, read, "c pre c-term")
}

func TestPreStopHookIsNotRunForWhatHasEnded(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	a.Write("done.yaml", harness.Pod("done", "echo c >> /diary/log", policy(v1.RestartPolicyNever), give, func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: run("echo pre >> /diary/log")}
	}))
	a.WaitPhase("done", v1.PodSucceeded)
	a.Remove("done.yaml")
	a.WaitGone("done")
	wrote(t, a, read, "c")
}

func TestHTTPHookAsksThePod(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	serve := `mkdir -p /www/cgi-bin
printf '#!/bin/sh\necho pre-$HTTP_X_WHO >> /diary/log\necho\n' > /www/cgi-bin/pre
chmod 755 /www/cgi-bin/pre
trap 'echo term >> /diary/log; exit 0' TERM
httpd -p 8080 -h /www; echo up >> /diary/log; while :; do sleep 1 & wait $!; done`
	a.Write("web.yaml", harness.Pod("web", serve, grace(120), give, func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		c.Ports = []v1.ContainerPort{{Name: "web", ContainerPort: 8080}}
		c.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{
			Path: "/cgi-bin/pre", Port: intstr.FromString("web"), HTTPHeaders: []v1.HTTPHeader{{Name: "X-Who", Value: "node"}},
			Scheme: v1.URISchemeHTTPS, // of a server that speaks plain HTTP
		}}}
	}))
	wrote(t, a, read, "up")
	a.Remove("web.yaml")
	a.WaitGone("web")
	wrote(t, a, read, "up pre-node term")
}

func TestStopSignalIsTheContainersOwn(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	a.Write("web.yaml", harness.Pod("web", "trap 'exit 9' USR1; trap '' TERM; touch /tmp/ready; while :; do sleep 1 & wait $!; done", grace(120), harness.ReadyOnceTouched, func(p *v1.Pod) {
		p.Spec.OS = &v1.PodOS{Name: v1.Linux}
		signal := v1.SIGUSR1
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{StopSignal: &signal}
	}))
	p := a.WaitRunning("web")
	if s := harness.Status(p, "c").StopSignal; s == nil || *s != v1.SIGUSR1 {
		t.Errorf("status says signal %v", s)
	}
	a.Remove("web.yaml")
	if died := seen.Wait(1, "die", "web", "c", harness.Patience)[0]; died.ExitCode != "9" {
		t.Errorf("ended with %s, want 9", died.ExitCode)
	}
}
