package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/timeline"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// record reads an agent's journal: as it is sent, and decoded.
func record(t *testing.T, a *harness.Agent) (raw string, all []journal.Shown) {
	t.Helper()
	socket := filepath.Join(a.Dir, "root", "mini-kubelet", "api", "agent.sock")
	client := &http.Client{Timeout: harness.Patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Get("http://localhost/mini-kubelet/journal")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	for in := json.NewDecoder(io.TeeReader(resp.Body, &text)); ; {
		var e journal.Shown
		switch err := in.Decode(&e); {
		case errors.Is(err, io.EOF):
			return text.String(), all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

// chain writes an event and its causes, the effect first.
func chain(all []journal.Shown, seq uint64) string {
	var words []string
	for _, e := range timeline.Chain(all, seq) {
		words = append(words, strings.Join(strings.Fields(e.Kind+" "+e.Name+" "+e.Reason), " "))
	}
	return strings.Join(words, " <- ")
}

// caused returns an error unless an event is a chain of causes that the expression describes.
func caused(all []journal.Shown, what string) error {
	want := regexp.MustCompile("^" + what + "$")
	var others []string
	for _, e := range all {
		got := chain(all, e.Seq)
		if want.MatchString(got) {
			return nil
		}
		if kind, _, _ := strings.Cut(what, " "); e.Kind == kind {
			others = append(others, got)
		}
	}
	return fmt.Errorf("nothing is %s, but there are\n%s", what, strings.Join(others, "\n"))
}

const markedSecret = "a-marked-secret-value"

// followed is what a command that goes on has written so far.
type followed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (f *followed) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(p)
}

func (f *followed) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

func TestAPodsLifeIsATimeLine(t *testing.T) {
	a := start(t)
	a.WriteText("secret.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: hidden}, stringData: {KEY: "+markedSecret+"}}")
	a.Write("crash.yaml", harness.Pod("crash", "exit 3"))
	a.Write("web.yaml", harness.Pod("web", "", func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		c.EnvFrom = []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "hidden"}}}}
		c.Env = []v1.EnvVar{{Name: "PLAIN", Value: markedSecret}}
		c.VolumeMounts = []v1.VolumeMount{{Name: "files", MountPath: "/files"}}
		p.Spec.Volumes = []v1.Volume{{Name: "files", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "hidden"}}}}
	}))
	web := a.WaitRunning("web")

	cmd, live := inside(t.Context(), t, a, "trace", "-f", "web"), &followed{}
	cmd.Stdout, cmd.Stderr = live, live
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := sync.OnceValue(func() int { _ = cmd.Wait(); return cmd.ProcessState.ExitCode() })
	defer ended()
	defer func() { _ = cmd.Process.Kill() }()

	t.Run("a back-off is a wait", func(t *testing.T) {
		a.WaitPod("crash", "is left alone", func(p *v1.Pod) bool {
			w := harness.Status(p, "c").State.Waiting
			return w != nil && w.Reason == "CrashLoopBackOff"
		})
		harness.Eventually(t, "the time that is waited is shown", harness.Patience, func() error {
			r := look(t, a, "", "trace", "crash", "--gaps", "100ms", "-c", "c")
			if !regexp.MustCompile(`wait +for the end of c's back-off \(CrashLoopBackOff\) +so far \d`).MatchString(r.out) || r.code != 0 {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}, a.Explain)
	})
	t.Run("what the runtime tells becomes a status", func(t *testing.T) {
		killed := map[string]bool{} // a relist may have been faster than the event
		harness.Eventually(t, "a chain from the event to the status", harness.Patience, func() error {
			if id := harness.ID(harness.Status(a.Pod("web"), "c").ContainerID); !killed[id] && len(killed) < 3 {
				killed[id] = true
				if err := a.Docker.Client.ContainerKill(t.Context(), id, "KILL"); err != nil {
					return err
				}
			}
			_, all := record(t, a)
			return caused(timeline.Of(all, string(web.UID)), "status Running <- step syncing <- wake pleg <- podEvent [0-9a-f]+ ContainerDied <- look <- engine")
		}, a.Explain)
	})
	t.Run("it is told live", func(t *testing.T) {
		harness.Eventually(t, "the end of the container is told", harness.Patience, func() error {
			if !regexp.MustCompile(`(?s) to Running\n.*RunPodSandbox.*PLEG +ContainerDied [0-9a-f]{12}\n.*step \d+ done`).MatchString(live.String()) {
				return errors.New(live.String())
			}
			return nil
		}, a.Explain)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if code := ended(); code != 130 {
			t.Errorf("interrupted, it ends with %d\n%s", code, live)
		}
	})

	a.WaitPod("web", "runs again", func(p *v1.Pod) bool { return harness.Status(p, "c").RestartCount > 0 && harness.Ready(p) })
	a.Remove("web.yaml")
	harness.Eventually(t, "web is gone", harness.Patience, func() error {
		if a.Pod("web") != nil {
			return errors.New("it is there")
		}
		return nil
	}, a.Explain)
	raw, all := record(t, a)

	t.Run("what is wanted becomes calls to Docker", func(t *testing.T) {
		own := timeline.Of(all, string(web.UID))
		for _, what := range []string{
			"docker POST /containers/{id}/start <- cri RunPodSandbox <- step syncing <- (admit <- )?change file ADD <- source .*web.yaml read",
			"docker POST /containers/{id}/start <- cri StartContainer <- step syncing <- .*",
			"plan <- step syncing <- (admit <- )?change file ADD <- source .*web.yaml read",
			"docker POST /containers/{id}/stop <- cri StopContainer <- signal c .*<- step terminating <- (phase syncing terminating <- )?change file REMOVE <- source .*web.yaml removed",
			"docker DELETE /containers/{id} <- cri RemoveContainer <- step removing <- .*source .*web.yaml removed",
		} {
			if err := caused(own, what); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("the parts are the whole", func(t *testing.T) {
		best := 0.0 // a machine that stands still in the middle of one does so at another time in the other
		for _, name := range []string{"web", "crash"} {
			pod := timeline.Find(all, "", name, a.Node)[0]
			line := timeline.New(timeline.Of(all, pod.UID), pod.UID, timeline.Options{Now: time.Now()})
			var told time.Duration
			for _, p := range line.Parts {
				if p.Kind != timeline.Unaccounted { // also what a layer does by itself, which has its name
					told += p.Took
				} else if p.Took > line.Total/50 {
					t.Logf("%s: %s %v", name, p.Name, p.Took)
				}
			}
			share := float64(told) / float64(line.Total)
			best = max(best, share)
			t.Logf("%s: %v of %v, %.1f %%", name, told, line.Total, 100*share)
			if !line.Running || line.Forgotten || line.Beginning != "file" || share < 0.8 {
				t.Errorf("%s: %v of %v are told: %+v", name, told, line.Total, line.Parts)
			}
		}
		if best < 0.95 {
			t.Errorf("at best %.1f %% of the time to Running are told", 100*best)
		}
	})
	t.Run("each call has a cause from outside or of a timer", func(t *testing.T) {
		calls := 0
		for _, e := range all {
			if e.Kind != journal.CRI.String() {
				continue
			}
			calls++
			causes := timeline.Chain(all, e.Seq)
			if !timeline.Origin(causes[len(causes)-1]) {
				t.Errorf("broken: %s", chain(all, e.Seq))
			}
		}
		if calls < 20 {
			t.Errorf("%d calls", calls)
		}
	})
	t.Run("the gone pod in every form", func(t *testing.T) {
		for _, name := range []string{"web", web.Name, "pod/web", string(web.UID)} {
			r := look(t, a, "", "trace", name)
			if r.code != 0 || !strings.HasPrefix(r.out, web.Name+" (default) "+string(web.UID)+" ") || !strings.Contains(r.out, "RunPodSandbox") || strings.Contains(r.out, "crash") {
				t.Errorf("%s: %+v", name, r)
			}
		}
		var events []journal.Shown
		if err := json.Unmarshal([]byte(look(t, a, "", "trace", "web", "-o", "json").out), &events); err != nil || len(events) < 50 || !slices.ContainsFunc(events, func(e journal.Shown) bool { return e.UID == "" }) {
			t.Errorf("%v, %d events", err, len(events))
		}
		nestsPerTrack(t, look(t, a, "", "trace", "web", "-o", "chrome").out, len(events))
	})
	t.Run("nothing tells the secret", func(t *testing.T) {
		texts := raw + live.String()
		for _, form := range [][]string{{}, {"-o", "json"}, {"-o", "chrome"}} {
			texts += look(t, a, "", append([]string{"trace", "web"}, form...)...).out
		}
		if strings.Contains(texts, markedSecret) {
			t.Error("a secret value is in the journal")
		}
	})
}

// nestsPerTrack checks that what overlaps on a track of a Chrome trace is contained in each other.
func nestsPerTrack(t *testing.T, text string, least int) {
	t.Helper()
	type event struct {
		Name string
		Ph   string
		Ts   float64
		Dur  float64
		TID  int
	}
	var trace struct{ TraceEvents []event }
	if err := json.Unmarshal([]byte(text), &trace); err != nil {
		t.Fatal(err)
	}
	byTrack, events, names := map[int][]event{}, 0, 0
	for _, e := range trace.TraceEvents {
		switch {
		case e.Ph == "X":
			events++
			byTrack[e.TID] = append(byTrack[e.TID], e)
		case e.Name == "thread_name":
			names++
		}
	}
	const rounding = 0.001 // µs
	for _, list := range byTrack {
		for i, a := range list {
			for _, b := range list[:i] {
				apart := a.Ts >= b.Ts+b.Dur-rounding || b.Ts >= a.Ts+a.Dur-rounding
				inside := a.Ts >= b.Ts-rounding && a.Ts+a.Dur <= b.Ts+b.Dur+rounding || b.Ts >= a.Ts-rounding && b.Ts+b.Dur <= a.Ts+a.Dur+rounding
				if !apart && !inside {
					t.Errorf("%+v and %+v overlap", a, b)
				}
			}
		}
	}
	if events < least/2 || names != len(byTrack) {
		t.Errorf("%d events on %d tracks with %d names", events, len(byTrack), names)
	}
}
