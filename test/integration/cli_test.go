package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestCommandsThatLook(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", "", func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, harness.Container("other", "")) }))
	p := a.WaitRunning("web")
	must := func(args ...string) string {
		t.Helper()
		stdout, stderr, err := a.Run(args...)
		if err != nil {
			t.Fatalf("mini-kubelet %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
		}
		return stdout
	}
	server := []string{"--server", "http://" + a.ReadOnly()}
	socket := []string{"--runtime-endpoint", "unix://" + a.CRISocket()}

	t.Run("pods as a table", func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(must(append([]string{"pods"}, server...)...)), "\n")
		if len(lines) != 2 {
			t.Fatalf("%d lines, want head and one pod:\n%s", len(lines), strings.Join(lines, "\n"))
		}
		for _, column := range []string{"NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"} {
			if !strings.Contains(lines[0], column) {
				t.Errorf("head lacks %s: %s", column, lines[0])
			}
		}
		if !regexp.MustCompile(`web-`+a.Node+`\s+2/2\s+Running\s+0\s`).MatchString(lines[1]) || !strings.Contains(lines[1], p.Status.PodIP) {
			t.Errorf("line %q", lines[1])
		}
	})
	t.Run("pods as JSON and YAML", func(t *testing.T) {
		for form, read := range map[string]func([]byte, any) error{
			"json": json.Unmarshal,
			"yaml": func(b []byte, into any) error { return yaml.Unmarshal(b, into) },
		} {
			var list v1.PodList
			if err := read([]byte(must(append([]string{"pods", "-o", form}, server...)...)), &list); err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			if list.Kind != "PodList" || len(list.Items) != 1 || list.Items[0].UID != p.UID {
				t.Errorf("%s: kind %q, %d items", form, list.Kind, len(list.Items))
			}
		}
	})
	t.Run("containers over CRI", func(t *testing.T) {
		out := must(append([]string{"ps"}, socket...)...)
		for _, c := range []string{"c", "other"} {
			if id := harness.ID(harness.Status(p, c).ContainerID)[:12]; !strings.Contains(out, id) {
				t.Errorf("container %s (%s) is not listed:\n%s", c, id, out)
			}
		}
		var any map[string]any
		if err := json.Unmarshal([]byte(must(append([]string{"ps", "-o", "json"}, socket...)...)), &any); err != nil {
			t.Error(err)
		}
	})
	t.Run("images over CRI", func(t *testing.T) {
		out := must(append([]string{"images"}, socket...)...)
		if !strings.Contains(out, "test.local/busybox") {
			t.Errorf("the test image is not listed:\n%s", out)
		}
	})
	t.Run("without an agent they say so", func(t *testing.T) {
		_, stderr, err := a.Run("pods", "--server", "http://127.0.0.1:1")
		if err == nil || !strings.Contains(stderr, "127.0.0.1:1") {
			t.Errorf("error %v, said %q: want the address", err, stderr)
		}
	})
}

func TestVersionAndHelp(t *testing.T) {
	harness.NeedDockerd(t)
	a := harness.NewAgent(t, harness.AgentConfig{})
	stdout, _, err := a.Run("--version")
	if err != nil || !strings.Contains(stdout, "v1.37") {
		t.Errorf("--version: %q, %v", stdout, err)
	}
	stdout, stderr, err := a.Run("--help")
	if err != nil || !strings.Contains(stdout+stderr, "--pod-manifest-path") || !strings.Contains(stdout+stderr, "reset") {
		t.Errorf("--help: %v\n%s%s", err, stdout, stderr)
	}
}

// refused starts the agent with what it must refuse and returns what it said.
func refused(t *testing.T, a *harness.Agent) string {
	t.Helper()
	a.Launch()
	if err := a.WaitExit(); err == nil {
		t.Errorf("the agent ended without an error\n%s", a.Explain())
	}
	return a.Log()
}

func TestConfigurationThatIsWrongIsRefusedByNameAndLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  harness.AgentConfig
		want []string
	}{
		"unknown flag":       {harness.AgentConfig{Args: []string{"--frobnicate"}}, []string{"frobnicate"}},
		"unknown field":      {harness.AgentConfig{Config: map[string]any{"zzz": 1}}, []string{"zzz", "kubelet.yaml:"}},
		"wrong type":         {harness.AgentConfig{Config: map[string]any{"maxPods": "many"}}, []string{"maxPods", "kubelet.yaml:"}},
		"unknown subcommand": {harness.AgentConfig{Args: []string{"frobnicate"}}, []string{"frobnicate"}},
		"wrong cgroup driver": {harness.AgentConfig{Config: map[string]any{"cgroupDriver": "systemd"}},
			[]string{`misconfiguration: kubelet cgroup driver: "systemd" is different from docker cgroup driver: "cgroupfs"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "wrong cgroup driver" {
				info, err := harness.Docker(t).Client.Info(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if info.CgroupDriver != "cgroupfs" {
					t.Skipf("Docker's cgroup driver here is %s", info.CgroupDriver)
				}
			}
			said := refused(t, harness.NewAgent(t, c.cfg))
			for _, want := range c.want {
				if !strings.Contains(said, want) && !strings.Contains(strings.ReplaceAll(said, `\"`, `"`), want) {
					t.Errorf("it does not say %q:\n%s", want, said)
				}
			}
			if strings.Contains(said, "goroutine ") {
				t.Errorf("it panicked:\n%s", said)
			}
		})
	}
}

func TestWhatIsNotHonouredIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{
		Config: map[string]any{"volumePluginDir": "/x"},
		Args:   []string{"--cloud-provider", "aws"},
	})
	for _, name := range []string{"volumePluginDir", "cloud-provider"} {
		lines := 0
		for _, line := range strings.Split(a.Log(), "\n") {
			if strings.Contains(line, name) && strings.Contains(line, "not honoured") {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("%d warnings of %s, want one\n%s", lines, name, a.Explain())
		}
	}
}

func TestFlagsWinOverTheFile(t *testing.T) {
	t.Parallel()
	a := harness.NewAgent(t, harness.AgentConfig{})
	elsewhere := filepath.Join(a.Dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	b := harness.NewAgent(t, harness.AgentConfig{Args: []string{"--pod-manifest-path", elsewhere}})
	b.Write("file.yaml", harness.Pod("file", ""))
	if err := os.WriteFile(filepath.Join(elsewhere, "flag.yaml"), []byte(harness.Manifest(harness.Pod("flag", ""))), 0o644); err != nil {
		t.Fatal(err)
	}
	b.Start()
	b.WaitRunning("flag")
	if b.Pod("file") != nil {
		t.Error("the file's staticPodPath was used beside the flag's")
	}
}

func TestWithoutRootTheErrorIsPlain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	harness.NeedDockerd(t)
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	// A copy that anybody may run, wherever the tree is.
	dir, err := os.MkdirTemp("", "mini-kubelet-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mini-kubelet"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "mini-kubelet"), "--pod-manifest-path", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("it ran without root:\n%s", out)
	}
	if !strings.Contains(strings.ToLower(string(out)), "root") && !strings.Contains(string(out), "permission denied") {
		t.Errorf("it does not say what it lacks:\n%s", out)
	}
	if n := strings.Count(string(out), "\n"); n > 15 {
		t.Errorf("%d lines for one plain error:\n%s", n, out)
	}
}
