package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// once is a pod of policy Never with a sidecar, an init container and two regular
// ones, each of which writes its name down when it starts. Its init container waits
// until the file go is there.
func once(name string, give func(*v1.Pod)) *v1.Pod {
	note := func(c, then string) string { return fmt.Sprintf("echo %s-%s >> /diary/log; %s", name, c, then) }
	const stay = "trap 'exit 3' TERM; while :; do sleep 1 & wait $!; done"
	return harness.Pod(name, note("c", stay), policy(v1.RestartPolicyNever),
		inits(sidecar("s", note("s", stay)), harness.Container("i", note("i", "trap 'exit 3' TERM; while ! test -e /diary/"+name+"-go; do sleep 0.1; done"))),
		func(p *v1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, harness.Container("d", note("d", stay)))
		}, give)
}

// wroteAll compares what the diary says of such a pod, by its name, with one line of each
// container that should have run.
func wroteAll(diary, pod string) error {
	want := "s i c d"
	switch {
	case strings.Contains(pod, "-init-"):
		want = "s i"
	case strings.Contains(pod, "-bare-"):
		want = "c d"
	}
	var got []string
	for _, line := range strings.Fields(diary) {
		if c, of := strings.CutPrefix(line, pod+"-"); of {
			got = append(got, c)
		}
	}
	slices.Sort(got)
	if wanted := slices.Sorted(strings.FieldsSeq(want)); !slices.Equal(got, wanted) {
		return fmt.Errorf("%s started %q, want each of %q once", pod, got, wanted)
	}
	return nil
}

// TestAStartThatArrivesLateIsTheOnlyOne lets a container's start, which a killed agent
// asked for, reach Docker when the next agent believes that the container was never
// started and is about to replace it.
func TestAStartThatArrivesLateIsTheOnlyOne(t *testing.T) {
	d := harness.Docker(t)
	proxy := harness.StartProxy(t, d)
	a := harness.StartAgent(t, harness.AgentConfig{Endpoint: proxy.Endpoint})
	give, read := diary(t, a)
	held, arrive, arrived := make(chan string, 1), make(chan struct{}), make(chan struct{})
	var once sync.Once
	proxy.On(func(c harness.Call) bool { return c.Method == "POST" && strings.HasSuffix(c.Path, "/start") }, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		id := path.Base(path.Dir(r.URL.Path))
		info, err := d.Client.ContainerInspect(r.Context(), id)
		first := false
		if err == nil && strings.HasPrefix(info.Name, "/k8s_c_") {
			once.Do(func() { first = true })
		}
		if !first {
			next(w, r)
			return
		}
		held <- info.ID
		<-arrive
		next(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context()))) // its caller is dead
		close(arrived)
	})
	a.Write("p.yaml", harness.Pod("p", "echo c >> /diary/log; exec sleep 600", policy(v1.RestartPolicyNever), give))
	late := sync.OnceFunc(func() { close(arrive) })
	t.Cleanup(late)
	var id string
	select {
	case id = <-held:
	case <-time.After(harness.Patience):
		t.Fatal("no container is started", a.Explain())
	}
	defer proxy.On(func(c harness.Call) bool { return c.Method == "DELETE" && c.Path == "/containers/"+id }, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		late()
		<-arrived
		next(w, r)
	})()
	a.Kill()
	a.Launch()
	p := a.WaitRunning("p")
	if got := harness.ID(harness.Status(p, "c").ContainerID); got != id {
		t.Errorf("%s runs, want %s, which was started first", got, id)
	}
	harness.Eventually(t, "the container has written", harness.Patience, func() error {
		if read() == "" {
			return errors.New("nothing yet")
		}
		return nil
	})
	if got := read(); got != "c" {
		t.Errorf("the container ran %q times", got)
	}
	a.Remove("p.yaml")
	a.WaitGone("p")
}

// TestPodOfPolicyNeverRunsNothingTwice kills everything of pods that are being initialised, of pods that run,
// and of some without initialisation. Each container writes one line, and each pod ends.
func TestPodOfPolicyNeverRunsNothingTwice(t *testing.T) {
	a := ownDaemon(t, harness.DockerdConfig{})
	give, read := diary(t, a)
	remove := func(id string) error {
		return a.Docker.Client.ContainerRemove(t.Context(), id, container.RemoveOptions{Force: true})
	}
	kill := func(id string) error { return a.Docker.Client.ContainerKill(t.Context(), id, "KILL") }
	// strike does something to those of a pod's running containers that which picks.
	strike := func(do func(id string) error, which ...string) func(pod string) {
		return func(pod string) {
			of, err := a.Running(pod)
			for _, name := range slices.Sorted(maps.Keys(of)) { // the sandbox first
				if len(which) == 0 || slices.Contains(which, name) {
					err = errors.Join(err, do(of[name].ID))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	faults := map[string]func(pod string){
		"boxkilled":  strike(kill, harness.Sandbox),
		"boxremoved": strike(remove, harness.Sandbox),
		"oneremoved": strike(remove, "i", "c"),
		"allremoved": strike(remove),
	}
	restart := func() {
		if err := a.Docker.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, round := range []struct {
		name   string
		faults map[string]func(pod string)
		around func(strike func()) // what happens beside
	}{
		{"live", faults, func(strike func()) { strike() }},
		// A standalone node knows nothing of what is removed while no agent runs.
		{"away", map[string]func(string){"boxkilled": faults["boxkilled"]}, func(strike func()) { a.Kill(); strike(); a.Start() }},
		{"docker", map[string]func(string){"killed": func(string) {}}, func(func()) { a.Docker.Kill(); restart() }},
		{"reboot", map[string]func(string){"stopped": func(string) {}}, func(func()) { a.Kill(); a.Docker.Stop(); restart(); a.Start() }},
	} {
		var pods []string
		for fault := range round.faults {
			for _, moment := range []string{"init", "main", "bare"} {
				name := strings.Join([]string{round.name, moment, fault}, "-")
				if moment == "bare" && fault != "boxkilled" {
					continue
				}
				if moment == "main" {
					if err := os.WriteFile(filepath.Join(a.Dir, "diary", name+"-go"), nil, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				pod := once(name, give)
				if moment == "bare" {
					pod.Spec.InitContainers = nil
				}
				a.Write(name+".yaml", pod)
				pods = append(pods, name)
			}
		}
		for _, name := range pods {
			a.WaitPod(name, "has come as far as it should", func(p *v1.Pod) bool {
				return strings.Contains(name, "-init-") && harness.Status(p, "i").State.Running != nil || harness.Ready(p)
			})
		}
		for _, name := range pods { // a container runs before its first command does
			harness.Eventually(t, "all of "+name+" has written that it runs", harness.Patience, func() error { return wroteAll(read(), name) }, a.Explain)
		}
		round.around(func() {
			for _, name := range pods {
				round.faults[name[strings.LastIndex(name, "-")+1:]](name)
			}
		})
		for _, name := range pods {
			if strings.HasSuffix(name, "main-oneremoved") {
				// The other one runs on.
				a.WaitPod(name, "has lost a container and keeps the other", func(p *v1.Pod) bool {
					end := harness.Status(p, "c").State.Terminated
					return p.Status.Phase == v1.PodRunning && end != nil && end.ExitCode == 137 && harness.Status(p, "d").State.Running != nil
				})
				strike(kill, "d")(name)
			}
			p := a.WaitPhase(name, v1.PodFailed)
			for _, c := range p.Status.ContainerStatuses {
				if c.RestartCount != 0 {
					t.Errorf("%s: container %s has restartCount %d", name, c.Name, c.RestartCount)
				}
			}
			harness.Eventually(t, "nothing of "+name+" runs", harness.Patience, func() error {
				if left, err := a.Running(name); err != nil || len(left) > 0 {
					return fmt.Errorf("%d run, %w", len(left), err)
				}
				return nil
			}, a.Explain)
			a.Remove(name + ".yaml")
		}
		for _, name := range pods {
			a.WaitGone(name)
			if err := wroteAll(read(), name); err != nil {
				t.Error(err)
			}
		}
	}
}
