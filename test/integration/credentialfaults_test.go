package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestCredentialPlugInThatLies has the plug-in fail in all ways: the pull goes without it, the
// log says what it did, and the next try asks it again.
func TestCredentialPlugInThatLies(t *testing.T) {
	t.Parallel()
	registry := harness.StartRegistry(t)
	dir := t.TempDir()
	answer := func(host string) string {
		return `{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image","cacheDuration":"0s",` +
			`"auth":{"` + host + `":{"username":"user","password":"open sesame"}}}`
	}
	put(t, filepath.Join(dir, "real", "ours"), "#!/bin/sh\necho '"+answer(registry.Host)+"'\n", 0o755)
	put(t, filepath.Join(dir, "config.yaml"), fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: ours
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["127.0.0.*:%s"]
  defaultCacheDuration: 0s
`, strings.TrimPrefix(registry.Host, "127.0.0.1:")), 0o644)
	proxy := harness.StartPlugins(t, filepath.Join(dir, "real"), "ours")
	a := harness.StartAgent(t, harness.AgentConfig{Args: []string{
		"--image-credential-provider-config", filepath.Join(dir, "config.yaml"), "--image-credential-provider-bin-dir", proxy.Endpoint}})

	cases := map[string]struct {
		fault harness.Fault
		want  string // in the log; "" for a plug-in that does what it may
	}{
		"fails":    {harness.Fail(http.StatusInternalServerError, "open sesame"), "credential provider plug-in ours: exit status 1"},
		"garbage":  {harness.Answer("open sesame"), "credential provider plug-in ours: its answer is not JSON"},
		"nothing":  {harness.Answer(""), "credential provider plug-in ours: its answer is not JSON"},
		"huge":     {harness.Huge(64 << 20), "credential provider plug-in ours: more than 10485760 bytes of output"},
		"dies":     {harness.CutBefore(func() {}), "credential provider plug-in ours: signal: killed"},
		"of-other": {harness.Answer(answer("other.example")), ""},
	}
	refs := map[string]string{}
	for name := range cases { // before a login is wanted
		refs[name] = registry.Push(t, "team/"+name, "1")
	}
	registry.SetLogins(map[string]string{"user": "open sesame"})
	better := map[string]func(){}
	for name, tt := range cases {
		// Until it has been seen: one pod's next try may be over before the last one's first is made.
		better[name] = proxy.On(harness.About("/team/"+name+`"`, harness.Path("RUN", "/ours")), tt.fault)
		a.Write(name+".yaml", harness.Pod(name, "", ofImage(refs[name], v1.PullAlways)))
	}
	for name, tt := range cases {
		p := a.WaitPod(name, "waits with ImagePullBackOff", waitingFor("ImagePullBackOff"))
		if m := message(p); !strings.Contains(m, "no basic auth credentials") {
			t.Errorf("%s: %s, want Docker's words", name, m)
		}
		if tt.want != "" {
			waitLog(t, a, "Credential provider failed", tt.want, name)
		}
		better[name]()
	}
	for name := range cases {
		a.WaitRunning(name)
	}
	if strings.Contains(a.Log(), "open sesame") {
		t.Error("a login is in the log")
	}
}

// TestCredentialPlugInThatHangsHoldsUpOnlyItsOwnPods has the plug-in hang for one image: pods
// of other images, of the same registry too, do not wait, and an agent that is killed
// meanwhile asks again.
func TestCredentialPlugInThatHangsHoldsUpOnlyItsOwnPods(t *testing.T) {
	t.Parallel()
	registry := harness.StartRegistry(t)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "real", "ours"), "#!/bin/sh\necho "+
		`'{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image"}'`+"\n", 0o755)
	put(t, filepath.Join(dir, "config.yaml"), `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers: [{name: ours, apiVersion: credentialprovider.kubelet.k8s.io/v1, matchImages: ["127.0.0.*:`+strings.TrimPrefix(registry.Host, "127.0.0.1:")+`"], defaultCacheDuration: 0s}]
`, 0o644)
	proxy := harness.StartPlugins(t, filepath.Join(dir, "real"), "ours")
	a := harness.StartAgent(t, harness.AgentConfig{Args: []string{
		"--image-credential-provider-config", filepath.Join(dir, "config.yaml"), "--image-credential-provider-bin-dir", proxy.Endpoint}})
	begun := make(chan struct{})
	first := harness.First(harness.Path("RUN", "/ours"))
	proxy.On(func(c harness.Call) bool {
		if !first(c) {
			return false
		}
		close(begun)
		return true
	}, harness.Hang(nil))
	a.Write("stuck.yaml", harness.Pod("stuck", "", ofImage(registry.Push(t, "a/stuck", "1"), v1.PullAlways)))
	select {
	case <-begun:
	case <-time.After(harness.Patience):
		t.Fatalf("the plug-in is not called\n%s", a.Explain())
	}
	a.Write("other.yaml", harness.Pod("other", "", ofImage(registry.Push(t, "a/other", "1"), v1.PullAlways)))
	a.WaitRunning("other")
	a.Write("local.yaml", harness.Pod("local", ""))
	a.WaitRunning("local")
	a.Kill()
	a.Start()
	a.WaitRunning("stuck")
	a.CheckExactly(harness.Pod("stuck", ""), harness.Pod("other", ""), harness.Pod("local", ""))
}
