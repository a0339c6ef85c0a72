package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestManifestAddedEditedRemoved(t *testing.T) {
	a := start(t)

	a.Write("web.yaml", harness.Pod("web", ""))
	first := a.WaitRunning("web")
	running, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{harness.Sandbox, "c"} {
		c, ok := running[name]
		want := "/k8s_" + name + "_web-" + a.Node + "_default_" + string(first.UID) + "_0"
		if !ok || c.Names[0] != want {
			t.Errorf("container %s: named %v, want %s", name, c.Names, want)
		}
	}

	edited := harness.Pod("web", "", func(p *v1.Pod) {
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "EDITED", Value: "yes"}}
	})
	a.Write("web.yaml", edited)
	second := a.WaitPod("web", "runs as a new pod", func(p *v1.Pod) bool { return p.UID != first.UID && harness.Ready(p) })
	a.WaitExactly(edited)
	info, err := a.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(second, "c").ContainerID))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(info.Config.Env, " "), "EDITED=yes") {
		t.Errorf("the running container has not the edited environment: %v", info.Config.Env)
	}

	a.Remove("web.yaml")
	a.WaitGone("web")
	harness.Eventually(t, "the pod's directories are gone", harness.Patience, func() error {
		left, err := os.ReadDir(filepath.Join(a.Dir, "root", "pods"))
		if err == nil && len(left) > 0 {
			return &os.PathError{Op: "still there", Path: left[0].Name(), Err: os.ErrExist}
		}
		return nil
	}, a.Explain)
}

func TestSameManifestAlwaysGivesTheSameUID(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", ""))
	first := a.WaitRunning("web")
	a.Remove("web.yaml")
	a.WaitGone("web")
	a.Write("web.yaml", harness.Pod("web", ""))
	if second := a.WaitRunning("web"); second.UID != first.UID {
		t.Errorf("UID %s, was %s", second.UID, first.UID)
	}
}

func TestRewritingTheSameManifestDisturbsNothing(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", ""))
	before := a.WaitRunning("web")
	a.Write("web.yaml", harness.Pod("web", ""))
	a.Write("other.yaml", harness.Pod("other", "")) // proof that the directory was read since
	a.WaitRunning("other")
	after := a.WaitRunning("web")
	if b, c := harness.Status(before, "c"), harness.Status(after, "c"); b.ContainerID != c.ContainerID {
		t.Errorf("container %s, was %s", c.ContainerID, b.ContainerID)
	}
}

func TestEditUnderAFixedUIDRestartsOnlyTheChangedContainer(t *testing.T) {
	a := start(t)
	pod := harness.Pod("fixed", "", func(p *v1.Pod) {
		p.UID = types.UID("11111111-2222-3333-4444-" + a.Node[len(a.Node)-2:] + "0000000000")
		p.Spec.Containers = append(p.Spec.Containers, harness.Container("other", ""))
	})
	a.Write("fixed.yaml", pod)
	a.WaitRunning("fixed")
	before, err := a.Running("fixed")
	if err != nil {
		t.Fatal(err)
	}
	// Only the image counts under the same UID, as for the kubelet since 1.31.
	a.Docker.LoadBusybox(t, "test.local/busybox:2")
	pod.Spec.Containers[0].Image = "test.local/busybox:2"
	a.Write("fixed.yaml", pod)
	a.WaitPod("fixed", "has restarted container c", func(p *v1.Pod) bool {
		return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1
	})
	after, err := a.Running("fixed")
	if err != nil {
		t.Fatal(err)
	}
	if before[harness.Sandbox].ID != after[harness.Sandbox].ID {
		t.Error("the sandbox was replaced")
	}
	if before["other"].ID != after["other"].ID {
		t.Error("the unchanged container was restarted")
	}
	if before["c"].ID == after["c"].ID {
		t.Error("the changed container was not restarted")
	}
}

func TestManifestForms(t *testing.T) {
	a := start(t)
	a.WriteText("two.yaml", harness.Manifest(harness.Pod("one", ""), harness.Pod("two", "")))
	jsonPod, err := json.Marshal(harness.Pod("json", ""))
	if err != nil {
		t.Fatal(err)
	}
	a.WriteText("pod.json", string(jsonPod))
	list := v1.PodList{Items: []v1.Pod{*harness.Pod("listed-1", ""), *harness.Pod("listed-2", "")}}
	list.APIVersion, list.Kind = "v1", "PodList"
	jsonList, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	a.WriteText("list.yaml", string(jsonList)) // JSON is YAML
	a.WriteText(".hidden.yaml", harness.Manifest(harness.Pod("hidden", "")))
	for _, name := range []string{"one", "two", "json", "listed-1", "listed-2"} {
		a.WaitRunning(name)
	}
	if a.Pod("hidden") != nil {
		t.Error("the pod of a hidden file runs")
	}
}

func TestFirstFileInOrderWinsADuplicateName(t *testing.T) {
	t.Parallel()
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{"fileCheckFrequency": "1s"}})
	first := harness.Pod("dup", "", func(p *v1.Pod) { p.Labels = map[string]string{"from": "a"} })
	a.Write("b.yaml", harness.Pod("dup", "", func(p *v1.Pod) { p.Labels = map[string]string{"from": "b"} }))
	a.Write("a.yaml", first)
	a.Start()
	a.WaitRunning("dup")
	time.Sleep(2500 * time.Millisecond) // two rescans, which must not say it again
	if p := a.WaitRunning("dup"); p.Labels["from"] != "a" {
		t.Errorf("the pod is from %s.yaml, want a.yaml", p.Labels["from"])
	}
	a.CheckExactly(first)
	said := 0
	for _, line := range strings.Split(a.Log(), "\n") {
		if strings.Contains(line, "b.yaml") && strings.Contains(strings.ToLower(line), "duplicate") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("the duplicate in b.yaml was reported %d times, want once\n%s", said, a.Explain())
	}
}

func TestGarbageInTheManifestDirectoryHarmsNoOther(t *testing.T) {
	a := start(t)
	good := harness.Pod("good", "")
	a.Write("good.yaml", good)
	before := a.WaitRunning("good")

	bad := map[string]string{
		"binary.yaml":  "\x7fELF\x00\x01\x02\xff\xfe garbage \x00",
		"broken.yaml":  "apiVersion: v1\nkind: Pod\n  metadata: [",
		"unknown.yaml": "apiVersion: v1\nkind: Pod\nmetadata:\n  name: unknown\nspec:\n  containres: []\n",
		"noname.yaml":  "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: c\n    image: x\n",
		"service.yaml": "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc\n",
		"path.yaml":    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: ../../../etc\nspec:\n  containers:\n  - name: c\n    image: x\n",
		"huge.yaml":    "# " + strings.Repeat("x", 12<<20) + "\n",
	}
	for name, text := range bad {
		a.WriteText(name, text)
	}
	a.WriteText("empty.yaml", "")
	if err := unix.Mkfifo(filepath.Join(a.Manifests, "fifo.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere/at/all", filepath.Join(a.Manifests, "dangling.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(a.Manifests, "directory.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A bad document beside a good one.
	mixed := harness.Pod("mixed", "")
	a.WriteText("mixed.yaml", bad["unknown.yaml"]+"---\n"+harness.Manifest(mixed))
	a.WaitRunning("mixed")
	// And the directory is still followed.
	late := harness.Pod("late", "")
	a.Write("zlate.yaml", late)
	a.WaitRunning("late")

	after := a.WaitRunning("good")
	if harness.Status(before, "c").ContainerID != harness.Status(after, "c").ContainerID {
		t.Error("the good pod was restarted")
	}
	a.CheckExactly(good, mixed, late)
	for name := range bad {
		harness.Eventually(t, "the log names "+name, harness.Patience, func() error {
			if !strings.Contains(a.Log(), name) {
				return os.ErrNotExist
			}
			return nil
		})
	}
	if strings.Contains(a.Log(), "panic") {
		t.Errorf("something panicked\n%s", a.Explain())
	}
}

func TestABadEditLeavesTheRunningPodAsItWas(t *testing.T) {
	a := start(t)
	pod := harness.Pod("web", "")
	a.Write("web.yaml", pod)
	before := a.WaitRunning("web")
	broken := harness.Manifest(pod)
	for _, bad := range []string{
		strings.Replace(broken, "containers:", "containres:", 1),
		broken[:len(broken)/2], // half written
	} {
		a.WriteText("web.yaml", bad)
		marker := harness.Pod("marker", "")
		a.Write("zmarker.yaml", marker) // when it runs, the bad edit was read
		a.WaitRunning("marker")
		after := a.Pod("web")
		if after == nil || harness.Status(before, "c").ContainerID != harness.Status(after, "c").ContainerID {
			t.Errorf("the pod did not run on through a bad edit\n%s", a.Explain())
		}
		a.Remove("zmarker.yaml")
		a.WaitGone("marker")
	}
}

func TestManifestPathMayBeASingleFile(t *testing.T) {
	t.Parallel()
	a := harness.NewAgent(t, harness.AgentConfig{})
	a.SetConfig("staticPodPath", filepath.Join(a.Manifests, "only.yaml"))
	only := harness.Pod("only", "")
	a.Write("only.yaml", only)
	a.Write("other.yaml", harness.Pod("other", ""))
	a.Start()
	a.WaitRunning("only")
	a.CheckExactly(only)
	a.Write("only.yaml", harness.Pod("replaced", ""))
	a.WaitRunning("replaced")
	a.WaitGone("only")
}

func TestMissingManifestDirectoryIsFollowedOnceItIsMade(t *testing.T) {
	t.Parallel()
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{"fileCheckFrequency": "1s"}})
	if err := os.Remove(a.Manifests); err != nil {
		t.Fatal(err)
	}
	a.Start()
	if err := os.Mkdir(a.Manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	if err := os.RemoveAll(a.Manifests); err != nil {
		t.Fatal(err)
	}
	// Files that are removed take their pods along, though their directory goes, too.
	a.WaitGone("web")
}

func TestStandaloneNodeHasTheLabelsThatEachNodeHas(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{Args: []string{"--node-labels", "example.com/disk=fast"}})
	a.Write("picky.yaml", harness.Pod("picky", "", func(p *v1.Pod) {
		p.Spec.NodeSelector = map[string]string{
			"kubernetes.io/hostname": a.Node, "kubernetes.io/os": runtime.GOOS, "kubernetes.io/arch": runtime.GOARCH,
			"beta.kubernetes.io/os": runtime.GOOS, "beta.kubernetes.io/arch": runtime.GOARCH, "example.com/disk": "fast",
		}
	}))
	a.WaitRunning("picky")
	a.Write("other.yaml", harness.Pod("other", "", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "windows"} }))
	p := a.WaitPhase("other", v1.PodFailed)
	if p.Status.Reason != "NodeAffinity" || p.Status.QOSClass != v1.PodQOSBestEffort {
		t.Errorf("rejected with %s, class %q", p.Status.Reason, p.Status.QOSClass)
	}
}

func TestCommandThatDoesNotExistHasNoLastState(t *testing.T) {
	a := start(t)
	a.Write("bad.yaml", harness.Pod("bad", "", func(p *v1.Pod) {
		p.Spec.RestartPolicy, p.Spec.Containers[0].Command = v1.RestartPolicyNever, []string{"/no/such/binary"}
	}))
	p := a.WaitPhase("bad", v1.PodFailed)
	if s := harness.Status(p, "c"); s.State.Terminated == nil || s.LastTerminationState != (v1.ContainerState{}) {
		t.Errorf("state %+v, last state %+v", s.State, s.LastTerminationState)
	}
}
