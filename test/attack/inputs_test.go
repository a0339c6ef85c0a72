package attack

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// verdict is what becomes of an input: what its pod must come to, or what the log must say.
type verdict struct {
	pod  string
	want func(*v1.Pod) bool
	log  string
}

// restarted reports that the pod's container has run twice: the agent has survived the first.
func restarted(p *v1.Pod) bool { return harness.Status(p, "c").RestartCount > 0 }

// failed returns whether a pod has failed for that reason.
func failed(reason string) func(*v1.Pod) bool {
	return func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed && p.Status.Reason == reason }
}

func done(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded }

// The files of testdata that an agent is given, by what they are to lead to. All of them are
// seeds of FuzzManifest.
var verdicts = map[string]verdict{
	"anchors.yaml":                  {pod: "anchors", want: harness.Ready},
	"beta-arch-selector.yaml":       {pod: "betaarch", want: harness.Ready},
	"deadline-in-backoff.yaml":      {pod: "dlback", want: failed("DeadlineExceeded")},
	"etc-hosts-sparse.yaml":         {pod: "etchosts", want: restarted},
	"generate-name.yaml":            {log: "generateName"},
	"hostpath-docker-root.yaml":     {pod: "log-shipper", want: harness.Ready},
	"hostpath-missing-untyped.yaml": {pod: "cni-node", want: harness.Ready},
	"logflood.yaml":                 {pod: "logflood", want: done},
	"never-cannotrun.yaml":          {pod: "badcmd", want: failed("")},
	"ocp-keepalived.yaml":           {log: "empty-dir"},
	"other-node.yaml":               {pod: "elsewhere", want: harness.Ready},
	"probe-background-child.yaml":   {pod: "bgchild", want: harness.Ready},
	"relative-hostpath.yaml":        {log: "./html"},
	"ro-emptydir-nested.yaml":       {pod: "nested-ro", want: harness.Ready},
	"subpath-in-configmap-dir.yaml": {pod: "subpath-inside", want: harness.Ready},
}

// TestHostileInputs gives all inputs of a kind to one agent at once, in an order that is another
// each time, kills it while it is at them, and looks at what they have led to; what runs beside
// them notices nothing, and nothing of them is left.
func TestHostileInputs(t *testing.T) {
	t.Parallel() // a machine that is busy with fuzzing is a worse one to be attacked on
	for name, k := range map[string]kind{
		"of tenants": {inputs: tenants, most: 256 << 10},
		// Whoever writes manifests owns the node, and a mistake of theirs may cost more.
		"of a manifest's author": {inputs: bombs, special: true, most: 1536 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := harness.StartAgent(t, harness.AgentConfig{})
			a.Write("00-witness.yaml", harness.Pod("witness", ""))
			witness := harness.Status(a.WaitRunning("witness"), "c")
			before, err := a.Audit()
			if err != nil {
				t.Fatal(err)
			}
			for until, round := time.Now().Add(duration(t)), 1; round == 1 || time.Now().Before(until); round++ {
				seed := rand.Uint64()
				t.Logf("round %d, seed %d", round, seed)
				k.attack(t, a, rand.New(rand.NewPCG(seed, 0)))
				if now := harness.Status(a.WaitRunning("witness"), "c"); now.ContainerID != witness.ContainerID || now.RestartCount != 0 {
					t.Errorf("the witness was restarted: %+v", now)
				}
				harness.Eventually(t, "nothing is left of the attack", harness.Patience, func() error {
					after, err := a.Audit()
					if err != nil {
						return err
					}
					after.Netns, after.Veths = before.Netns, before.Veths // others use this Docker as well
					return before.Leaks(after)
				}, a.Explain)
				if t.Failed() {
					return
				}
			}
			if strings.Contains(a.Log(), "panic") {
				t.Errorf("something panicked\n%s", a.Explain())
			}
		})
	}
}

// kind is the inputs of one who attacks.
type kind struct {
	inputs  func(t *testing.T, a *harness.Agent) (texts map[string]string, verdicts map[string]verdict) // by file
	special bool                                                                                        // put what is no file into the manifest directory
	most    int                                                                                         // KiB of memory that the agent may take
}

// attack is one round.
func (k kind) attack(t *testing.T, a *harness.Agent, r *rand.Rand) {
	t.Helper()
	texts, verdicts := k.inputs(t, a)
	seen := len(a.Log())
	release := holdConnections(t, a)
	files := slices.Sorted(maps.Keys(texts))
	r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	var specials []string
	if k.special {
		specials = special(t, a)
	}
	for i, file := range files {
		a.WriteText(file, texts[file])
		if i == len(files)/2 {
			k.checkMemory(t, a)
			checkAnswers(t, a)
			release()
			a.Kill()
			a.Start()
			release = holdConnections(t, a)
		}
	}
	checkAnswers(t, a)
	release()
	for file, v := range verdicts {
		if v.log == "" {
			a.WaitPod(v.pod, "comes to what "+file+" is to lead to", v.want)
			continue
		}
		harness.Eventually(t, "the log says what is wrong with "+file, harness.Patience, func() error {
			for line := range strings.Lines(a.Log()[seen:]) {
				if strings.Contains(line, file) && strings.Contains(line, v.log) {
					return nil
				}
			}
			return fmt.Errorf("no line with %q", v.log)
		}, a.Explain)
	}
	// The directory is still followed, after all that was in it.
	a.Write("zz-late.yaml", harness.Pod("late", ""))
	a.WaitRunning("late")
	k.checkMemory(t, a)
	for _, file := range slices.Concat(files, specials, []string{"zz-late.yaml"}) {
		a.Remove(file)
	}
	for _, v := range verdicts {
		if v.pod != "" {
			a.WaitGone(v.pod)
		}
	}
	a.WaitGone("late")
}

// checkAnswers asks at every port while others hold all connections that they get.
func checkAnswers(t *testing.T, a *harness.Agent) {
	t.Helper()
	fresh := &http.Client{Timeout: harness.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, address := range a.Listening() {
		harness.Eventually(t, "held connections keep nobody out of "+address, harness.Patience, func() error {
			r, err := fresh.Get("http://" + address + "/healthz")
			if err == nil {
				_ = r.Body.Close() // any answer is one
			}
			return err // this machine may be too slow for a request of its own
		}, a.Explain)
	}
}

// checkMemory looks at what the agent's process has taken since its start.
func (k kind) checkMemory(t *testing.T, a *harness.Agent) {
	t.Helper()
	switch peak, err := harness.PeakRSS(a.PID()); {
	case err != nil:
		t.Error(err)
	case peak > k.most:
		t.Errorf("the agent took %d MiB, %d are allowed", peak>>10, k.most>>10)
	default:
		t.Logf("the agent took %d MiB at most", peak>>10)
	}
}

// tenants are the pods of testdata, and one whose probes write without end.
func tenants(t *testing.T, a *harness.Agent) (map[string]string, map[string]verdict) {
	t.Helper()
	texts, all := map[string]string{}, maps.Clone(verdicts)
	replace := strings.NewReplacer("BUSYBOX", harness.Busybox, "HOST", filepath.Join(a.Dir, "host"), "DOCKER", dockerRoot(t, a))
	for file := range verdicts {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = replace.Replace(string(text))
	}
	texts["probe-output.yaml"], all["probe-output.yaml"] = harness.Manifest(floodingProbes()), verdict{pod: "probeout", want: harness.Ready}
	return texts, all
}

// bombs are manifests whose reading takes more than their size, none of which is ever a pod.
func bombs(*testing.T, *harness.Agent) (map[string]string, map[string]verdict) {
	laughs := "apiVersion: v1\nkind: Pod\nmetadata: {name: laughs}\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 30; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	labels := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: doubled\n  labels:\n"
	return map[string]string{
		"laughs.yaml":      laughs,
		"doubled.yaml":     labels + strings.Repeat("    k: v\n", 1<<20),
		"deep-flow.yaml":   "a: " + strings.Repeat("[", 5<<20),
		"deep-block.yaml":  "apiVersion: v1\nkind: Pod\n" + strings.Repeat("? ", 1<<20),
		"deep-json.yaml":   `{"apiVersion":"v1","kind":"Pod","a":` + strings.Repeat("[", 5<<20),
		"json-stream.yaml": strings.Repeat(`{"apiVersion":"v1","kind":"Pod"}`, 200_000),
		"documents.yaml":   strings.Repeat("--- a\n", 1<<20),
		"bad-list.yaml":    "apiVersion: v1\nkind: PodList\nitems:\n" + strings.Repeat("- {metadata: {name: p}, spec: {cont: [{name: c}]}}\n", 100_000),
		"quotes.yaml":      "'" + strings.Repeat("'", 9<<20),
		"anchors-many.yml": "a:\n" + strings.Repeat("- &a x\n- *a\n", 300_000),
		"numbers.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: numbers}\nspec: {containers: [{name: c, image: x, resources: {limits: " +
			"{cpu: 1e300000000, memory: 1e-300000000, hugepages-1e30: 1}}}]}\n",
		"binary.yaml": "\x7fELF\x00\x01\x02\xff\xfe garbage \x00\x1b[2J",
	}, map[string]verdict{"doubled.yaml": {log: "already"}, "numbers.yaml": {log: "exponent"}, "binary.yaml": {log: "binary.yaml"}}
}

// special puts what is no manifest file into the manifest directory, and returns the names.
func special(t *testing.T, a *harness.Agent) []string {
	t.Helper()
	in := func(name string) string { return filepath.Join(a.Manifests, name) }
	for name, err := range map[string]error{
		"fifo.yaml":      unix.Mkfifo(in("fifo.yaml"), 0o644),
		"directory.yaml": os.Mkdir(in("directory.yaml"), 0o755),
		"zero.yaml":      os.Symlink("/dev/zero", in("zero.yaml")),
		"memory.yaml":    os.Symlink("/proc/self/mem", in("memory.yaml")),
		"itself.yaml":    os.Symlink("itself.yaml", in("itself.yaml")),
		"huge.yaml":      os.WriteFile(in("huge.yaml"), nil, 0o644),
	} {
		if err != nil {
			t.Fatalf("make %s: %v", name, err)
		}
	}
	if err := os.Truncate(in("huge.yaml"), 8<<40); err != nil {
		t.Fatal(err)
	}
	return []string{"fifo.yaml", "directory.yaml", "zero.yaml", "memory.yaml", "itself.yaml", "huge.yaml"}
}

// floodingProbes is a pod of which 30 probes write 20 MB a second each.
func floodingProbes() *v1.Pod {
	p := harness.Pod("probeout", "")
	p.Spec.Containers = nil
	for i := range 15 {
		c := harness.Container(fmt.Sprintf("c%d", i), "")
		probe := func() *v1.Probe {
			return &v1.Probe{
				ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"head", "-c", "20000000", "/dev/zero"}}},
				PeriodSeconds: 1, TimeoutSeconds: 60, FailureThreshold: 1000,
			}
		}
		c.ReadinessProbe, c.LivenessProbe = probe(), probe()
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

// holdConnections begins requests at every port of the agent that it does not end, more than are served.
func holdConnections(t *testing.T, a *harness.Agent) (release func()) {
	t.Helper()
	var held []net.Conn
	ports := a.Listening()
	if len(ports) < 3 {
		t.Errorf("the agent listens on %v, its health, pods and streams are to be attacked", ports)
	}
	for _, address := range ports {
		for range 500 {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err != nil {
				break // as many as there is room for
			}
			held = append(held, c)
			_, _ = c.Write([]byte("GET /pods HTTP/1.1\r\n")) // refused: as good
		}
	}
	release = func() {
		for _, c := range held {
			_ = c.Close()
		}
	}
	t.Cleanup(release)
	return release
}

// dockerRoot is where the agent's Docker keeps its containers.
func dockerRoot(t *testing.T, a *harness.Agent) string {
	t.Helper()
	info, err := a.Docker.Client.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.DockerRootDir
}
