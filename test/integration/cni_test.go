package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// plugin is a CNI plug-in that answers to ADD with these interfaces and to DEL by writing it down.
func plugin(t *testing.T, dir, interfaces string) {
	t.Helper()
	script := `#!/bin/sh
cat >/dev/null
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","interfaces":[` + interfaces + `],"ips":[{"address":"10.99.0.2/24","interface":0}]}' ;;
DEL) echo "$CNI_CONTAINERID" >>'` + dir + `/deleted' ;;
esac
`
	path := filepath.Join(dir, "bin", "scripted")
	if err := errors.Join(os.WriteFile(path+".new", []byte(script), 0o755), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// A CNI plug-in answers with what no plug-in should. The pod waits and says why, the agent
// lives, and neither its next start nor reset stumbles over what is on disk by then.
func TestAHostileCNIPluginDoesNotEndTheAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := harness.NewAgent(t, harness.AgentConfig{Args: []string{"--network-plugin", "cni", "--cni-bin-dir", filepath.Join(dir, "bin")}})
	conf := filepath.Join(a.Dir, "cni")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.Mkdir(conf, 0o755),
		os.WriteFile(filepath.Join(conf, "10-evil.conflist"), []byte(`{"cniVersion":"1.0.0","name":"evil","plugins":[{"type":"scripted"}]}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	plugin(t, dir, "null")
	a.Start()
	pid := a.PID()
	a.Write("web.yaml", harness.Pod("web", ""))
	harness.Eventually(t, "the agent says why the pod waits", harness.Patience, func() error {
		if !strings.Contains(a.Log(), "interfaces[0] is null") {
			return errors.New("it does not")
		}
		return nil
	}, a.Explain)
	if p := a.Pod("web"); p != nil && p.Status.Phase != v1.PodPending {
		t.Errorf("the pod is %s", p.Status.Phase)
	}
	if _, err := a.Get("/healthz"); err != nil || a.PID() != pid {
		t.Fatalf("the agent does not live: %v\n%s", err, a.Explain())
	}
	plugin(t, dir, `{"name":"eth0","sandbox":"'"$CNI_NETNS"'"}`)
	if p := a.WaitRunning("web"); p.Status.PodIP != "10.99.0.2" {
		t.Errorf("the pod has %q", p.Status.PodIP)
	}

	// What earlier agents have left, or other hands.
	damage := func() (sandboxes []string) {
		t.Helper()
		a.Kill()
		files, err := filepath.Glob(filepath.Join(a.Dir, "shim", "network", "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("records %v, %v", files, err)
		}
		for _, f := range files {
			id := strings.TrimSuffix(filepath.Base(f), ".json")
			record := fmt.Sprintf(`{"sandbox":{"id":%q,"name":"web","namespace":"default","uid":"u"},"config":{"cniVersion":"1.0.0","name":"evil","plugins":[{"type":"scripted"}]},`+
				`"result":{"cniVersion":"1.0.0","interfaces":[null],"ips":[null,{"address":"10.99.0.2/24","interface":0}]}}`, id)
			if err := os.WriteFile(f, []byte(record), 0o600); err != nil {
				t.Fatal(err)
			}
			sandboxes = append(sandboxes, id)
		}
		return sandboxes
	}
	damage()
	a.Start()
	a.WaitPod("web", "runs in another sandbox", func(p *v1.Pod) bool { return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1 })
	sandboxes := damage()
	if _, stderr, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...); err != nil {
		t.Errorf("reset: %v\n%s", err, stderr)
	}
	deleted, err := os.ReadFile(filepath.Join(dir, "deleted"))
	for _, id := range sandboxes {
		if err != nil || !strings.Contains(string(deleted), id) {
			t.Errorf("the plug-in was not told that sandbox %s is gone: %v\n%s", id, err, deleted)
		}
	}
	if own, err := a.Containers(); err != nil || len(own) > 0 {
		t.Errorf("%d containers are left after reset (%v)", len(own), err)
	}
}
