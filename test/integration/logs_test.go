package integration

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/fsnotify/fsnotify"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// numberLines returns a pod that writes numbered lines until the test makes gate/stop: 5 MB of
// Docker's records a second at most, of which Docker keeps 24, since an agent may stand still for
// seconds on a busy machine; and only a few thousand lines a second while there is gate/slow.
func numberLines(gate string) *v1.Pod {
	script := `n=0
while [ ! -e /gate/stop ]; do
	if [ -e /gate/slow ]; then k=$((n+10)); usleep 5000; else k=$((n+1000)); usleep 15000; fi
	seq $((n+1)) $k; n=$k
done
echo $n >/gate/last; sleep 2`
	return harness.Pod("chatty", script, func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Volumes = []v1.Volume{{Name: "gate", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: gate}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "gate", MountPath: "/gate"}}
	})
}

// rotated is the log of a container and what it was rotated to.
type rotated struct {
	t   *testing.T
	dir string
}

func logOf(t *testing.T, a *harness.Agent, p *v1.Pod) rotated {
	return rotated{t, filepath.Join(a.Dir, "logs", p.Namespace+"_"+p.Name+"_"+string(p.UID), "c")}
}

// await returns when something that matches the pattern is made in the directory.
func (r rotated) await(watcher *fsnotify.Watcher, pattern string, explain func() string) {
	r.t.Helper()
	for want, giveUp := regexp.MustCompile(pattern), time.After(harness.Patience); ; {
		select {
		case e := <-watcher.Events:
			if e.Has(fsnotify.Create) && want.MatchString(filepath.Base(e.Name)) {
				return
			}
		case <-giveUp:
			r.t.Fatalf("no %s was made\n%s", pattern, explain())
		}
	}
}

// names returns the files of the log, oldest first, without unfinished and second copies: one
// of these is there while the agent compresses.
func (r rotated) names() []string {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir) // by name
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		plain, packed := strings.CutSuffix(e.Name(), ".gz")
		if packed && slices.Contains(names, plain) || strings.HasSuffix(plain, ".tmp") {
			continue
		}
		names = append(names, e.Name())
	}
	if i := slices.Index(names, "0.log"); i >= 0 {
		names = append(slices.Delete(names, i, i+1), "0.log")
	}
	return names
}

// newest returns when something was last written to the log.
func (r rotated) newest() (at time.Time) {
	for _, name := range r.names() {
		fi, err := os.Stat(filepath.Join(r.dir, name))
		if err == nil && !strings.HasSuffix(name, ".gz") && fi.ModTime().After(at) {
			at = fi.ModTime()
		}
	}
	return at
}

// check fails the test unless the log has the lines first to last, each once; with 0, the first
// may be any.
func (r rotated) check(first, last int) {
	r.t.Helper()
	next := first
	for _, name := range r.names() {
		f, err := os.Open(filepath.Join(r.dir, name))
		if err != nil {
			r.t.Fatal(err)
		}
		defer f.Close()
		var text io.Reader = f
		if strings.HasSuffix(name, ".gz") {
			if text, err = gzip.NewReader(f); err != nil {
				r.t.Fatalf("%s: %v", name, err)
			}
		}
		lines := bufio.NewScanner(text)
		for n := 1; lines.Scan(); n++ {
			fields := strings.SplitN(lines.Text(), " ", 4)
			if next == 0 && len(fields) == 4 {
				next, _ = strconv.Atoi(fields[3])
			}
			if len(fields) < 4 || fields[2] != "F" || fields[3] != strconv.Itoa(next) {
				r.t.Fatalf("%s:%d is %q, want line %d; files %v", name, n, lines.Text(), next, r.names())
			}
			next++
		}
		if lines.Err() != nil {
			r.t.Fatalf("%s: %v", name, lines.Err())
		}
	}
	if next-1 != last {
		r.t.Errorf("the last line is %d, want %d; files %v", next-1, last, r.names())
	}
}

// stop ends the writing and returns the number of the last line.
func stopWriting(t *testing.T, a *harness.Agent, gate string) int {
	t.Helper()
	touch(t, filepath.Join(gate, "stop"))
	a.WaitPhase("chatty", v1.PodSucceeded)
	b, err := os.ReadFile(filepath.Join(gate, "last"))
	if err != nil {
		t.Fatal(err)
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNoLineIsLostOrDoubledByRotation kills the agent at each step of a rotation in turn,
// while a container writes.
func TestNoLineIsLostOrDoubledByRotation(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{
		"containerLogMaxSize": "1Mi", "containerLogMaxFiles": 1000, "containerLogMonitorInterval": "3s",
	}})
	gate := t.TempDir()
	slow := filepath.Join(gate, "slow")
	a.Write("chatty.yaml", numberLines(gate))
	log := logOf(t, a, a.WaitRunning("chatty"))
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	if err := watcher.Add(log.dir); err != nil {
		t.Fatal(err)
	}
	const stamp = `^0\.log\.\d{8}-\d{6}`
	for _, made := range []string{stamp + "$", `^0\.log$`, stamp + `\.tmp$`, stamp + `\.gz$`, stamp + "$"} {
		log.await(watcher, made, a.Explain)
		a.Kill()
		// Docker keeps only so much for the time without an agent.
		touch(t, slow)
		before := log.newest()
		a.Start()
		harness.Eventually(t, "lines are copied again", harness.Patience, func() error {
			if now := log.newest(); !now.After(before) {
				return fmt.Errorf("nothing was written since %v", before)
			}
			return nil
		}, a.Explain)
		if err := os.Remove(slow); err != nil {
			t.Fatal(err)
		}
		for len(watcher.Events) > 0 {
			<-watcher.Events
		}
	}
	last := stopWriting(t, a, gate)
	a.Kill() // so that nothing changes any more
	log.check(1, last)
	names := log.names()
	packed := len(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasSuffix(n, ".gz") }))
	if len(names) < 3 || packed == 0 {
		t.Errorf("files %v", names)
	}
	t.Logf("%d lines in %d files", last, len(names))
}

// TestLogsAreRotatedOnContainerd is the same on a runtime that writes logs by itself, with a
// limit on the number of files that is reached.
func TestLogsAreRotatedOnContainerd(t *testing.T) {
	t.Parallel()
	r := harness.StartContainerd(t)
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{
		"containerRuntimeEndpoint": r.Endpoint,
		"containerLogMaxSize":      "64Ki", "containerLogMaxFiles": 3, "containerLogMonitorInterval": "3s",
	}})
	a.Start()
	gate := t.TempDir()
	touch(t, filepath.Join(gate, "slow"))
	a.Write("chatty.yaml", numberLines(gate))
	log := logOf(t, a, a.WaitRunning("chatty"))
	harness.Eventually(t, "the log is rotated and compressed", harness.Patience, func() error {
		if names := log.names(); len(names) < 3 || !strings.HasSuffix(names[0], ".gz") || names[2] != "0.log" {
			return fmt.Errorf("files %v", names)
		}
		return nil
	}, a.Explain)
	first := log.names()[0]
	a.Kill()
	a.Start()
	harness.Eventually(t, "the oldest file is removed", harness.Patience, func() error {
		if names := log.names(); len(names) != 3 || names[0] == first || !strings.HasSuffix(names[0], ".gz") {
			return fmt.Errorf("files %v", names)
		}
		return nil
	}, a.Explain)
	last := stopWriting(t, a, gate)
	a.Kill()
	log.check(0, last)
	if names := log.names(); len(names) > 3 {
		t.Errorf("files %v", names)
	}
}

// TestLogsOfPodsWithoutContainersAreRemoved: somebody has removed a pod's containers while no
// agent ran, and then nobody wants the pod any more.
func TestLogsOfPodsWithoutContainersAreRemoved(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", "echo hello; sleep 600"))
	kept := harness.Pod("kept", "echo hello; sleep 600")
	a.Write("kept.yaml", kept)
	gone, stays := logOf(t, a, a.WaitRunning("web")), logOf(t, a, a.WaitRunning("kept"))
	others := filepath.Join(a.Dir, "logs", "default_other_0123456789", "c")
	if err := os.MkdirAll(others, 0o755); err != nil {
		t.Fatal(err)
	}
	containers, err := a.ContainersOf("web")
	if err != nil {
		t.Fatal(err)
	}
	a.Kill()
	for _, c := range containers {
		if err := a.Docker.Client.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	a.Remove("web.yaml")
	a.Start()
	harness.Eventually(t, "the logs are removed", harness.Patience, func() error {
		if _, err := os.Stat(filepath.Dir(gone.dir)); !os.IsNotExist(err) {
			return fmt.Errorf("%s is there (%v)", gone.dir, err)
		}
		return nil
	}, a.Explain)
	for _, dir := range []string{stays.dir, others} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}
