package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestImagePullSecrets(t *testing.T) {
	n, ns := join(t)
	registry := harness.StartRegistry(t)
	ref := registry.Push(t, "team/app", "1")
	registry.SetLogins(map[string]string{"user": "open sesame"})
	login := func(name, password string) {
		n.MustKubectl(ns, "create", "secret", "docker-registry", name, "--docker-server="+registry.Host, "--docker-username=user", "--docker-password="+password)
	}
	login("good", "open sesame")
	login("equal", "open sesame")
	login("wrong", "abracadabra")
	create := func(name string, secrets ...string) {
		n.Create(ns, harness.Pod(name, "sleep 1000", quick, func(p *v1.Pod) {
			p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = ref, v1.PullIfNotPresent
			for _, s := range secrets {
				p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, v1.LocalObjectReference{Name: s})
			}
		}))
	}
	backsOff := func(name string) {
		t.Helper()
		n.Await(ns, name, "waits with ImagePullBackOff", func(p *v1.Pod) bool {
			w := harness.Status(p, "c").State.Waiting
			return w != nil && w.Reason == "ImagePullBackOff" && strings.Contains(w.Message, "ErrImagePull")
		})
	}
	create("missing", "later")
	backsOff("missing")
	harness.Eventually(t, "an event names the missing Secret", harness.Patience, func() error {
		out := n.MustKubectl(ns, "describe", "pod", "missing")
		if !strings.Contains(out, "FailedToRetrieveImagePullSecret") || !strings.Contains(out, "Unable to retrieve some image pull secrets (later)") {
			return errors.New(out)
		}
		return nil
	}, n.Explain)

	create("good", "wrong", "good") // the second login is tried after the first
	n.AwaitReady(ns, "good")
	// The image is present now, but not for pods that could not have pulled it.
	create("equal", "equal")
	n.AwaitReady(ns, "equal")
	harness.Eventually(t, "an event tells that the same login has pulled the image before", harness.Patience, func() error {
		if out := n.MustKubectl(ns, "describe", "pod", "equal"); !strings.Contains(out, "can be accessed by the pod") {
			return errors.New(out)
		}
		return nil
	})
	create("none")
	backsOff("none")
	create("wrong", "wrong")
	backsOff("wrong")
	login("later", "open sesame")
	n.AwaitReady(ns, "missing")
}

func TestACredentialProviderGetsTheServiceAccountsToken(t *testing.T) {
	t.Parallel()
	registry := harness.StartRegistry(t)
	ref := registry.Push(t, "token/app", "1")
	registry.SetLogins(map[string]string{"user": "open sesame"})
	dir := t.TempDir()
	for name, text := range map[string]string{
		"plugin": "#!/bin/sh\ncat >" + dir + "/request\n" + `echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry",
 "auth":{"` + registry.Host + `":{"username":"user","password":"open sesame"}}}'` + "\n",
		"config.yaml": fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: plugin
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["%s"]
  defaultCacheDuration: 1h
  tokenAttributes:
    serviceAccountTokenAudience: images.example
    cacheType: ServiceAccount
    requireServiceAccount: true
    requiredServiceAccountAnnotationKeys: [images.example/role]
`, registry.Host),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{Args: []string{
		"--image-credential-provider-config", filepath.Join(dir, "config.yaml"), "--image-credential-provider-bin-dir", dir}})
	ns := n.Namespace()
	// Nodes may ask for tokens of this audience, as an operator allows it.
	role := &rbac.Role{Rules: []rbac.PolicyRule{{Verbs: []string{"request-serviceaccounts-token-audience"}, APIGroups: []string{""}, Resources: []string{"images.example"}}}}
	role.Name = "images"
	if _, err := n.Cluster.Client.RbacV1().Roles(ns).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "create", "rolebinding", "images", "--role=images", "--group=system:nodes")
	n.MustKubectl(ns, "create", "serviceaccount", "puller")
	n.MustKubectl(ns, "annotate", "serviceaccount", "puller", "images.example/role=reader")
	create := func(name, account string) {
		n.Create(ns, harness.Pod(name, "sleep 1000", quick, func(p *v1.Pod) {
			p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = ref, v1.PullIfNotPresent
			p.Spec.ServiceAccountName = account
		}))
	}
	create("with", "puller")
	n.AwaitReady(ns, "with")
	request, err := os.ReadFile(filepath.Join(dir, "request"))
	if err != nil || !strings.Contains(string(request), `"serviceAccountToken":"ey`) || !strings.Contains(string(request), `"serviceAccountAnnotations":{"images.example/role":"reader"}`) {
		t.Errorf("request %s, %v: want a token and the annotation", request, err)
	}
	create("again", "puller")
	n.AwaitReady(ns, "again")
	create("without", "default")
	n.Await(ns, "without", "may not use the other account's image", func(p *v1.Pod) bool {
		w := harness.Status(p, "c").State.Waiting
		return w != nil && w.Reason == "ImagePullBackOff"
	})
}
