package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// keepalived is what OpenShift's static pod has that the API has not, and more of the kind: a field
// in another spelling, a key twice, a grace period in the metadata.
const keepalived = `apiVersion: v1
kind: Pod
metadata:
  name: keepalived
  creationTimestamp:
  deletionGracePeriodSeconds: 65
spec:
  nodeName: some-other-node
  terminationGracePeriodSeconds: 1
  volumes:
  - name: run-dir
    emptyDir: {}
    empty-dir: {}
  containers:
  - &base
    name: a
    image: %[1]s
    imagePullPolicy: Never
    command: [sleep, "100000"]
    volumeMounts: [{name: run-dir, mountPath: /run}]
  - <<: *base
    name: b
    livenessprobe: {}
    command: [sleep, "100000"]
    command: [sleep, "100001"]
`

func TestWithManifestValidationWarnWhatAKubeletRunsRuns(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{Args: []string{"--manifest-validation=warn"}})
	a.WriteText("keepalived.yaml", fmt.Sprintf(keepalived, harness.Busybox))
	p := a.WaitRunning("keepalived")
	if b := p.Spec.Containers[1]; len(p.Spec.Containers) != 2 || b.Name != "b" || b.Command[1] != "100001" {
		t.Errorf("containers %+v", p.Spec.Containers)
	}
	if g := p.DeletionGracePeriodSeconds; g == nil || *g != 65 {
		t.Errorf("grace period %v", g)
	}
	if p.Spec.NodeName != a.Node {
		t.Errorf("on node %q", p.Spec.NodeName)
	}
	want := "keepalived.yaml: document 1 (line 25): key \\\"command\\\" already set in map, dropped, as the kubelet does; so is spec.containers[1].livenessprobe (line 23), spec.volumes[0].empty-dir (line 13)"
	log := a.Log()
	if n := strings.Count(log, "Manifest warning"); n != 1 || !strings.Contains(log, want) {
		t.Errorf("%d warnings, none of them %s", n, want)
	}
}

func TestManifestsThatAreNotTakenAreNamedAndHinderNoOther(t *testing.T) {
	a := start(t)
	pod := func(name, more string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  containers:\n  - {name: c, image: %s, imagePullPolicy: Never, command: [sleep, '100000']}\n%s", name, harness.Busybox, more)
	}
	wants := map[string]string{
		"keepalived.yaml": `document 1 (line 25): not YAML: key \"command\" already set in map`,
		"relative.yaml":   `document 1 (line 8): spec.volumes[0].hostPath.path: Invalid value: \"./html\": must be an absolute path of the node`,
		"generated.yaml":  `document 1 (line 3): metadata.generateName: Forbidden: generateName is not possible in a manifest: give it a name`,
		"escapes.yaml":    `\u001b[2J of v1 cannot be used`,
		"doubled.yaml":    "document 1: and ",
		"proc.yaml":       "document 1 (line 1): a manifest must be an object",
	}
	a.WriteText("keepalived.yaml", fmt.Sprintf(keepalived, harness.Busybox))
	a.WriteText("relative.yaml", pod("relative", "  volumes:\n  - hostPath: {path: ./html, type: Directory}\n    name: html\n"))
	a.WriteText("generated.yaml", strings.Replace(pod("x", ""), "{name: x}", "{generateName: foo-}", 1))
	a.WriteText("escapes.yaml", "apiVersion: v1\nkind: \"Pod\\n\\e[2J\"\nmetadata: {name: x}\n")
	a.WriteText("doubled.yaml", strings.Replace(pod("doubled", ""), "{name: doubled}", "\n  name: doubled\n  labels:\n"+strings.Repeat("    k: v\n", 1<<19), 1))
	if err := os.Symlink("/proc/version", filepath.Join(a.Manifests, "proc.yaml")); err != nil {
		t.Fatal(err)
	}
	a.Write("well.yaml", harness.Pod("well", "")) // last by name: all before were read
	a.WaitRunning("well")
	harness.Eventually(t, "each is told", harness.Patience, func() error {
		log := a.Log()
		for file, want := range wants {
			if !strings.Contains(log, file+": "+want) && !(file == "escapes.yaml" && strings.Contains(log, want)) {
				return fmt.Errorf("%s: not told: %s", file, want)
			}
		}
		if strings.Contains(log, "\x1b") {
			return fmt.Errorf("the log has a terminal escape")
		}
		return nil
	}, func() string { return a.Log()[:min(len(a.Log()), 20000)] })
	if n := len(a.Log()); n > 1<<20 {
		t.Errorf("the log has %d bytes", n)
	}
	pods, err := a.Pods()
	if err != nil || len(pods.Items) != 1 {
		t.Errorf("pods %v, %v", pods, err)
	}
}

// deletionGracePeriodSeconds of a manifest counts, as with a kubelet: the pod may take longer than its
// spec says.
func TestAManifestsDeletionGracePeriodCounts(t *testing.T) {
	a := start(t)
	text := harness.Manifest(harness.Pod("drain", "trap 'sleep 6; echo drained > /out/drained; exit 0' TERM; while :; do sleep 0.1; done", func(p *v1.Pod) {
		p.DeletionGracePeriodSeconds = new(int64(65))
		p.Spec.TerminationGracePeriodSeconds = new(int64(1))
		p.Spec.Volumes = []v1.Volume{{Name: "out", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: filepath.Join(a.Dir, "out"), Type: new(v1.HostPathDirectoryOrCreate)}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "out", MountPath: "/out"}}
	}))
	a.WriteText("drain.yaml", text)
	a.WaitRunning("drain")
	a.Remove("drain.yaml")
	a.WaitGone("drain")
	if _, err := os.Stat(filepath.Join(a.Dir, "out", "drained")); err != nil {
		t.Errorf("it was killed after the spec's second: %v", err)
	}
}
