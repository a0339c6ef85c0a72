package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestQuickStart does what `make run` does, on the machine's own Docker, with the
// configuration, the manifests and the demo image of this repository; only
// directories, ports and the image's name are the test's own.
func TestQuickStart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, as mini-kubelet does")
	}
	t.Parallel()
	d := harness.MachineDocker(t)
	image := d.Own(t, "mini-kubelet.local/demo")
	demo := exec.CommandContext(t.Context(), "go", "run", "./cmd/demo-image", "-name", image)
	demo.Dir = harness.Root()
	if out, err := demo.CombinedOutput(); err != nil {
		t.Fatalf("make the demo image: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(harness.Root(), "config", "kubelet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{"healthzPort", "healthzBindAddress", "readOnlyPort"} {
		delete(config, own) // the harness chooses free ones
	}
	a := harness.NewAgent(t, harness.AgentConfig{Docker: d, Config: config,
		Args: []string{"--pod-manifest-path", manifests(t, image), "--show-pods"}})
	began := time.Now()
	a.Start()
	var pods []v1.Pod
	harness.Eventually(t, "the sample pods run", harness.Patience, func() error {
		list, err := a.Pods()
		if err != nil {
			return err
		}
		pods = list.Items
		if len(pods) == 0 {
			return fmt.Errorf("no pods")
		}
		for i := range pods {
			if !harness.Ready(&pods[i]) && pods[i].Status.Phase != v1.PodSucceeded {
				return fmt.Errorf("%s is %s", pods[i].Name, pods[i].Status.Phase)
			}
		}
		return nil
	}, a.Explain)
	t.Logf("%d sample pods ran after %v", len(pods), time.Since(began).Round(10*time.Millisecond))
	harness.Eventually(t, "it says in plain words what runs and how to look further", harness.Patience, func() error {
		said := a.Log()
		for i := range pods {
			if want := "pod default/" + pods[i].Name + " is " + string(pods[i].Status.Phase); !strings.Contains(said, want) {
				return fmt.Errorf("it does not say %q", want)
			}
		}
		if _, after, found := strings.Cut(said, "To look further"); !found || strings.Count(after, "\n") < 3 {
			return fmt.Errorf("it names no two commands to look further")
		}
		return nil
	}, a.Explain)

	before := runningIDs(t, a)
	if len(before) < 2 {
		t.Errorf("%d containers run", len(before))
	}
	a.Interrupt()
	checkStillRunning(t, a, before)
	a.Start()
	for i := range pods {
		name := strings.TrimSuffix(pods[i].Name, "-"+a.Node)
		p := a.WaitPod(name, "is adopted", func(p *v1.Pod) bool { return p.Status.Phase == pods[i].Status.Phase })
		for _, c := range p.Status.ContainerStatuses {
			if c.RestartCount != 0 {
				t.Errorf("container %s of %s was restarted", c.Name, p.Name)
			}
		}
	}
	checkStillRunning(t, a, before)
	a.Interrupt()
	if _, stderr, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...); err != nil {
		t.Errorf("reset: %v\n%s", err, stderr)
	}
	if own, err := a.Containers(); err != nil || len(own) > 0 {
		t.Errorf("%d containers are left after reset (%v)", len(own), err)
	}
}

// manifests copies the repository's manifests, with another image for the demo's.
func manifests(t *testing.T, image string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(harness.Root(), "manifests", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	dir := t.TempDir()
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.ReplaceAll(string(text), "mini-kubelet.local/demo:v1", image)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
