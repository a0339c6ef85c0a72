package integration

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// guarded is a registry with an image that needs a login.
func guarded(t *testing.T, repo string) (r *harness.Registry, ref string) {
	t.Helper()
	r = harness.StartRegistry(t)
	ref = r.Push(t, repo, "1")
	r.SetLogins(map[string]string{"user": "open sesame"})
	return r, ref
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func message(p *v1.Pod) string {
	if w := harness.Status(p, "c").State.Waiting; w != nil {
		return w.Reason + ": " + w.Message
	}
	return ""
}

func TestAPullNeedsTheNodesLogin(t *testing.T) {
	registry, ref := guarded(t, "team/app")
	a := start(t)
	a.Write("app.yaml", harness.Pod("app", "", ofImage(ref, "")))
	p := a.WaitPod("app", "waits with ImagePullBackOff", waitingFor("ImagePullBackOff"))
	if m := message(p); !strings.Contains(m, "ErrImagePull") || !strings.Contains(m, "no basic auth credentials") {
		t.Errorf("%s, want Docker's and the registry's words", m)
	}

	// A wrong login first, then the right one: the file is read at the next try.
	config := filepath.Join(a.Dir, "root", "config.json")
	wrong := base64.StdEncoding.EncodeToString([]byte("user:not the one"))
	put(t, config, fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, registry.Host, wrong), 0o600)
	a.Write("wrong.yaml", harness.Pod("wrong", "", ofImage(ref, "")))
	p = a.WaitPod("wrong", "waits with ImagePullBackOff", waitingFor("ImagePullBackOff"))
	if m := message(p); !strings.Contains(m, "ErrImagePull") || !strings.Contains(strings.ToLower(m), "unauthorized") {
		t.Errorf("%s, want the registry's refusal", m)
	}
	put(t, config, fmt.Sprintf(`{"auths":{%q:{"auth":%q},%q:{"username":"user","password":"open sesame"}}}`, registry.Host+"/team", wrong, registry.Host), 0o600)
	a.WaitRunning("app")
	a.WaitRunning("wrong")
	for _, secret := range []string{"open sesame", "not the one", wrong} {
		if strings.Contains(a.Log(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}

	// The image has now been pulled with the node's login, which every pod may use.
	pulls := registry.Pulls()
	a.Write("again.yaml", harness.Pod("again", "", ofImage(ref, v1.PullIfNotPresent)))
	a.WaitRunning("again")
	if n := registry.Pulls(); n != pulls {
		t.Error("pulled though every pod may use it")
	}
	pulled := filepath.Join(a.Dir, "root", "image_manager", "pulled")
	records, err := os.ReadDir(pulled)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records of pulled images, %v", len(records), err)
	}
	text, err := os.ReadFile(filepath.Join(pulled, records[0].Name()))
	if want := registry.Host + `/team/app":{"nodePodsAccessible":true}`; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("record %s, %v: want %s", text, err, want)
	}
}

func TestAnImageThatNobodyIsKnownToHavePulledIsPulledAgain(t *testing.T) {
	t.Parallel()
	registry, ref := guarded(t, "lost/app")
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{"imagePullCredentialsVerificationPolicy": "AlwaysVerify"}})
	config := filepath.Join(a.Dir, "root", "config.json")
	login := fmt.Sprintf(`{"auths":{%q:{"username":"user","password":"open sesame"}}}`, registry.Host)
	put(t, config, login, 0o600)
	a.Start()
	a.Write("one.yaml", harness.Pod("one", "", ofImage(ref, v1.PullIfNotPresent)))
	a.WaitRunning("one")

	// The agent forgets who pulled it, and the node loses its login.
	a.Interrupt()
	if err := os.RemoveAll(filepath.Join(a.Dir, "root", "image_manager")); err != nil {
		t.Fatal(err)
	}
	put(t, config, "{}", 0o600)
	a.Start()
	a.Write("two.yaml", harness.Pod("two", "", ofImage(ref, v1.PullIfNotPresent)))
	a.WaitPod("two", "waits with ImagePullBackOff", waitingFor("ImagePullBackOff"))
	a.Write("never.yaml", harness.Pod("never", "", ofImage(ref, v1.PullNever)))
	a.WaitPod("never", "waits with ErrImageNeverPull", waitingFor("ErrImageNeverPull"))
	put(t, config, login, 0o600)
	a.WaitRunning("two")
	a.WaitRunning("never")
}

func TestACredentialProviderPlugInLogsIn(t *testing.T) {
	t.Parallel()
	registry, ref := guarded(t, "plugin/app")
	dir := t.TempDir()
	put(t, filepath.Join(dir, "bin", "ours"), `#!/bin/sh
cat >"$DIR/request"
echo "$1" >>"$DIR/calls"
[ -e "$DIR/fail" ] && { echo "the vault is shut" >&2; exit 1; }
echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry",
 "auth":{"`+registry.Host+`":{"username":"user","password":"open sesame"}}}'
`, 0o755)
	put(t, filepath.Join(dir, "fail"), "", 0o644)
	put(t, filepath.Join(dir, "config.yaml"), fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: ours
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["127.0.0.*:%s"]
  defaultCacheDuration: 1h
  args: [get]
  env: [{name: DIR, value: %s}]
`, strings.TrimPrefix(registry.Host, "127.0.0.1:"), dir), 0o644)
	a := harness.StartAgent(t, harness.AgentConfig{Args: []string{
		"--image-credential-provider-config", filepath.Join(dir, "config.yaml"), "--image-credential-provider-bin-dir", filepath.Join(dir, "bin")}})

	a.Write("app.yaml", harness.Pod("app", "", ofImage(ref, v1.PullAlways)))
	a.WaitPod("app", "waits with ImagePullBackOff", waitingFor("ImagePullBackOff"))
	if !strings.Contains(a.Log(), "credential provider plug-in ours: exit status 1: the vault is shut") {
		t.Error("the log does not say which plug-in failed")
	}
	if err := os.Remove(filepath.Join(dir, "fail")); err != nil {
		t.Fatal(err)
	}
	a.WaitRunning("app")
	request, err := os.ReadFile(filepath.Join(dir, "request"))
	if want := `"image":"` + registry.Host + `/plugin/app"`; err != nil || !strings.Contains(string(request), want) {
		t.Errorf("request %s, %v: want %s", request, err, want)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil || !strings.HasPrefix(string(calls), "get\n") {
		t.Errorf("calls %q, %v", calls, err)
	}
	a.Write("second.yaml", harness.Pod("second", "", ofImage(ref, v1.PullAlways)))
	a.WaitRunning("second")
	if again, _ := os.ReadFile(filepath.Join(dir, "calls")); string(again) != string(calls) {
		t.Errorf("calls %q, then %q: the answer was to be kept", calls, again)
	}
	if strings.Contains(a.Log(), "open sesame") {
		t.Error("a login is in the log")
	}
}
