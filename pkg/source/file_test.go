package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

const node = "Node-1"

// manifest is a small valid manifest of a pod.
func podManifest(name string, lines ...string) string {
	text := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + name + "\nspec:\n  containers:\n  - name: c\n    image: busybox:1\n"
	for _, l := range lines {
		text += l + "\n"
	}
	return text
}

// fileRun is a FileSource that runs on a directory of its own.
type fileRun struct {
	t    *testing.T
	dir  string
	src  *FileSource
	out  chan Snapshot
	stop context.CancelFunc

	mu       sync.Mutex
	reported []manifest.Problem
}

func startFile(t *testing.T, path string, more ...func(*FileConfig)) *fileRun {
	t.Helper()
	r := &fileRun{t: t, dir: path, out: make(chan Snapshot)}
	cfg := FileConfig{Path: path, NodeName: node, Period: time.Hour, Report: func(p manifest.Problem) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reported = append(r.reported, p)
	}}
	for _, f := range more {
		f(&cfg)
	}
	src, err := NewFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.src = src
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- src.Run(ctx, r.out) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

func (r *fileRun) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// wait reads snapshots until one has exactly the pods of these names, without the
// node's name.
func (r *fileRun) wait(names ...string) Snapshot {
	r.t.Helper()
	deadline := time.After(2 * time.Minute)
	var last []string
	for {
		select {
		case s := <-r.out:
			slices.SortFunc(s.Pods, func(a, b *v1.Pod) int { return strings.Compare(a.Name, b.Name) })
			last = podNames(s.Pods)
			if equalNames(last, names) {
				return s
			}
		case <-deadline:
			r.t.Fatalf("no snapshot of the pods %q came; the last had %q; problems: %v", names, last, r.src.Problems())
		}
	}
}

func podNames(pods []*v1.Pod) []string {
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	return names
}

func equalNames(got, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		if got[i] != want[i]+"-node-1" {
			return false
		}
	}
	return true
}

func TestDirectoryIsFollowed(t *testing.T) {
	r := startFile(t, t.TempDir())
	r.wait()
	r.write("b.yaml", podManifest("b"))
	r.wait("b")
	r.write("a.yaml", podManifest("a"))
	r.wait("a", "b")
	if err := os.Remove(filepath.Join(r.dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	r.wait("a")
}

func TestAFileThatAppearsDuringTheFirstLookIsSeen(t *testing.T) {
	// The moment, while the other files are being read, cannot be chosen, only tried
	// for.
	for i := range 20 {
		dir := t.TempDir()
		var names []string
		for j := range 20 {
			name := fmt.Sprintf("p%02d", j)
			names = append(names, name)
			if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(podManifest(name)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r := startFile(t, dir)
		time.Sleep(time.Duration(i) * 150 * time.Microsecond)
		r.write("z.yaml", podManifest("z"))
		r.wait(append(names, "z")...)
		r.stop()
	}
}

// One document in a directory does not stop the others, whatever quantities it has. A
// quantity that does not fit in 64 bits takes minutes to compare, or crashes the agent
// when something is divided by it.
func TestHugeQuantitiesAreProblemsOfTheirDocument(t *testing.T) {
	r := startFile(t, t.TempDir())
	r.wait()
	for name, limits := range map[string]string{
		"page":     `{memory: 10Mi, "hugepages-1e30": 1}`,
		"tinypage": `{memory: 10Mi, "hugepages-1e-30000000": 1}`,
		"large":    `{memory: "1e300000000"}`,
		"wide":     `{memory: "123456789012345678901234e30000000"}`,
		"tiny":     `{memory: "1e-300000000"}`,
		"long":     `{memory: "12345678901234567890123e999999"}`,
		"over":     `{memory: "1e19"}`,
	} {
		r.write(name+".yaml", podManifest(name, "    resources: {requests: {memory: 1}, limits: "+limits+"}"))
	}
	r.write("well.yaml", podManifest("well"))
	r.wait("well")
	if n := len(r.src.Problems()); n < 7 {
		t.Errorf("%d problems: %v", n, r.src.Problems())
	}
}

// A copy takes nothing from the pod that runs, whatever its name; edits of the first go on.
func TestACopyOfAManifestIsTheOneThatIsNotRun(t *testing.T) {
	r := startFile(t, t.TempDir())
	r.write("web.yaml", podManifest("web"))
	before := r.wait("web").Pods[0].UID
	r.write("a-copy.yaml", podManifest("web"))
	r.write("other.yaml", podManifest("other"))
	if now := r.wait("other", "web").Pods[1].UID; now != before {
		t.Errorf("the pod of the copy is wanted now: %s", now)
	}
	r.write("web.yaml", podManifest("web", "    tty: true"))
	r.write("other.yaml", podManifest("later"))
	if now := r.wait("later", "web").Pods[1]; !now.Spec.Containers[0].TTY {
		t.Error("the copy counts since the first was changed")
	}
	if err := os.Remove(filepath.Join(r.dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	for r.wait("later", "web").Pods[1].Spec.Containers[0].TTY {
	}
}

// A disk that is not mounted yet when the agent starts, or a mistake in the path, ends no pods.
func TestAPathThatIsGoneWhenTheAgentStartsEndsNoPods(t *testing.T) {
	dir, kept := filepath.Join(t.TempDir(), "manifests"), t.TempDir()
	state := func(c *FileConfig) { c.StateDir, c.Period = kept, 20*time.Millisecond }
	r := startFile(t, dir, state)
	r.wait() // of a new node, nothing is wanted
	r.stop()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r = startFile(t, dir, state)
	r.write("web.yaml", podManifest("web"))
	before := r.wait("web").Pods[0].UID
	r.write("later.yaml", podManifest("later"))
	r.wait("later", "web") // the first is saved by then
	r.stop()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "z"} {
		r = startFile(t, path, state)
		if now := r.wait("later", "web").Pods[1].UID; now != before {
			t.Errorf("%s: it is another pod", path)
		}
		if p := r.src.Problems(); len(p) != 1 || !strings.Contains(p[0].Error(), "run on until it does") {
			t.Errorf("problems: %v", p)
		}
		r.stop()
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r = startFile(t, dir, state)
	r.wait()
}

// Of a file that is bad in part, the good documents and what is kept of the others outlive the agent.
func TestWhatAPartlyBadManifestGivesOutlivesTheAgent(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	state := func(c *FileConfig) { c.StateDir, c.Period = kept, 20*time.Millisecond }
	bad := strings.Replace(podManifest("b"), "image:", "imagge:", 1)
	r := startFile(t, dir, state)
	r.write("f.yaml", podManifest("a")+"---\n"+podManifest("b"))
	r.wait("a", "b")
	r.write("f.yaml", podManifest("a", "    tty: true")+"---\n"+bad+"---\n"+podManifest("c"))
	before := r.wait("a", "b", "c")
	r.write("f.yaml", "{{{")
	r.write("g.yaml", podManifest("g"))
	r.wait("a", "b", "c", "g")
	r.stop()
	r = startFile(t, dir, state)
	after := r.wait("a", "b", "c", "g")
	for i, p := range before.Pods {
		if now := after.Pods[i]; now.UID != p.UID || now.Spec.Containers[0].TTY != (p.Name[0] == 'a') {
			t.Errorf("%s is another pod", p.Name)
		}
	}
	// What was removed meanwhile does not come back.
	r.write("f.yaml", podManifest("a")+"---\n"+bad)
	r.wait("a", "b", "g")
	r.write("f.yaml", bad)
	r.wait("b", "g")
	r.stop()
	if err := os.Remove(filepath.Join(dir, "g.yaml")); err != nil {
		t.Fatal(err)
	}
	r = startFile(t, dir, state)
	r.wait("b")
}

// As while an agent runs: a file that is gone from its directory has been removed.
func TestASingleFileThatIsGoneWhenTheAgentStartsWasRemoved(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "web.yaml")
	state := func(c *FileConfig) { c.StateDir = kept }
	if err := os.WriteFile(path, []byte(podManifest("web")), 0o644); err != nil {
		t.Fatal(err)
	}
	r := startFile(t, path, state)
	r.wait("web")
	r.stop()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r = startFile(t, path, state)
	r.wait()
}

// A UID in a manifest only distinguishes pods of one name: it cannot be another
// pod's.
func TestAUIDInAManifestIsNoOtherPods(t *testing.T) {
	r := startFile(t, t.TempDir())
	r.wait()
	fixed := func(name, more string) string {
		return strings.Replace(podManifest(name), "name: "+name, "name: "+name+"\n  uid: 0f1e2d3c"+more, 1)
	}
	r.write("victim.yaml", fixed("victim", ""))
	before := r.wait("victim").Pods[0].UID
	r.write("a.yaml", fixed("a", ""))
	r.write("victim.yaml", fixed("victim", "\n  labels: {changed: \"yes\"}"))
	for {
		pods := r.wait("a", "victim").Pods
		if pods[0].UID == pods[1].UID {
			t.Fatalf("both have UID %s", before)
		}
		if pods[1].UID != before {
			t.Fatalf("the UID changed with the content, from %s to %s", before, pods[1].UID)
		}
		if pods[1].Labels["changed"] == "yes" {
			break
		}
	}
}

func TestProblemsSayWhoseTheyAreAndFieldsWhereTheyStand(t *testing.T) {
	r := startFile(t, t.TempDir())
	r.wait()
	r.write("a.yaml", "# a comment\n"+podManifest("web")+"---\n"+podManifest("broken", "    imag: x")+"---\n"+podManifest("web"))
	r.wait("web")
	problems := r.src.Problems()
	if len(problems) != 2 {
		t.Fatalf("problems %+v", problems)
	}
	if p := problems[0]; p.Kind != "Pod" || p.Name.Name != "broken" || p.Name.Namespace != "default" || p.Line == 0 {
		t.Errorf("an unknown field's problem is %+v", p)
	}
	if p := problems[1]; p.Kind != "Pod" || p.Name.Name != "web-node-1" || p.File != filepath.Join(r.dir, "a.yaml") {
		t.Errorf("a copy's problem is %+v", p)
	}
	web := manifest.Ident{Kind: "Pod", Name: types.NamespacedName{Namespace: "default", Name: "web-node-1"}}
	for field, want := range map[string]int{"spec.containers[0].image": 9, "spec.containers[0].command[3]": 8, "metadata.name": 5, "spec.containers[7]": 7} {
		if file, line := r.src.Where(web, field); file != filepath.Join(r.dir, "a.yaml") || line != want {
			t.Errorf("%s is in %s, line %d, want %d", field, file, line, want)
		}
	}
	broken := manifest.Ident{Kind: "Pod", Name: types.NamespacedName{Namespace: "default", Name: "broken-node-1"}}
	if file, line := r.src.Where(broken, "spec"); file != "" || line != 0 {
		t.Errorf("what is not wanted is in %s, line %d", file, line)
	}
	// What stands there now is looked at, and it may be nothing.
	r.write(".hidden", "")
	if err := os.Truncate(filepath.Join(r.dir, "a.yaml"), 0); err != nil {
		t.Fatal(err)
	}
	if _, line := r.src.Where(web, "spec"); line != 0 {
		t.Errorf("an empty file has it in line %d", line)
	}
}
