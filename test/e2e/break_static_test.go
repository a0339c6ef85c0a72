package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestStaticPodIsEditedQuickly rewrites a manifest faster than its pod starts and
// stops. In the end the last one runs, with one mirror pod, and then none is left.
func TestStaticPodIsEditedQuickly(t *testing.T) {
	n, ns := join(t)
	version := func(i int) *v1.Pod {
		p := harness.Pod("s", "", func(p *v1.Pod) { p.Labels = map[string]string{"version": fmt.Sprint(i)} })
		p.Namespace = ns
		return p
	}
	for i := range 10 {
		n.Write("s.yaml", version(i))
		time.Sleep(300 * time.Millisecond)
	}
	mirror := n.Await(ns, n.Name("s"), "is the last version", func(p *v1.Pod) bool { return p.Labels["version"] == "9" && harness.Ready(p) })
	running, err := n.Running("s")
	if err != nil {
		t.Fatal(err)
	}
	if harness.ID(harness.Status(mirror, "c").ContainerID) != running["c"].ID {
		t.Errorf("the mirror shows %s, what runs is %v", harness.Status(mirror, "c").ContainerID, running)
	}

	// The kubelet API knows a static pod by its name, its own UID, and its mirror's.
	local := n.Pod("s")
	for _, uid := range []types.UID{"", local.UID, mirror.UID, "none"} {
		path := "/run/" + ns + "/" + n.Name("s") + "/" + string(uid) + "/c?cmd=echo+hello"
		want, body := 200, "hello\n"
		if uid == "none" {
			want, body = 404, fmt.Sprintf("pod %q does not exist", n.Name("s"))
		}
		if code, got := ask(t, n, "POST", strings.ReplaceAll(path, "//", "/"), "", apiServersPair(t, n)); code != want || got != body {
			t.Errorf("/run by UID %q: %d %q, want %d", uid, code, got, want)
		}
	}
	n.Remove("s.yaml")
	n.AwaitGone(ns, n.Name("s"))
	n.WaitGone("s")
}

// TestMirrorPodsThatCannotBe runs static pods for which the API server accepts no
// mirror. They run all the same, an event or the log says why, and nothing is
// retried constantly.
func TestMirrorPodsThatCannotBe(t *testing.T) {
	n, ns := join(t)
	lost := harness.Pod("lost", "", quick)
	lost.Namespace = ns + "-later"
	n.Write("lost.yaml", lost)
	n.WaitRunning("lost")
	why := func() string {
		var of []string
		for _, line := range strings.Split(n.Log(), "\n") {
			if strings.Contains(line, "Could not bring a mirror pod up to date") {
				of = append(of, line)
			}
		}
		return strings.Join(of, "\n")
	}
	harness.Eventually(t, "the log tells that the namespace is missing", harness.Patience, func() error {
		if said := why(); !strings.Contains(said, lost.Namespace) || !strings.Contains(said, "not found") {
			return errors.New(said)
		}
		return nil
	}, n.Explain)
	time.Sleep(3 * time.Second)
	if said := why(); strings.Count(said, "not found") > 1 {
		t.Errorf("the same is told again and again:\n%s", said)
	}
	// Once the namespace exists, so does the mirror.
	if _, err := n.Cluster.Client.CoreV1().Namespaces().Create(t.Context(), &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lost.Namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.AwaitReady(lost.Namespace, n.Name("lost"))
	// A namespace that is deleted takes the mirror along; the pod runs on.
	n.MustKubectl("", "delete", "namespace", lost.Namespace, patiently)
	n.WaitRunning("lost")

	// A static pod that names a secret is refused by the node or by the API server
	// (NodeRestriction); either is told.
	secret := harness.Pod("secret", "", quick, func(p *v1.Pod) {
		p.Spec.Volumes = []v1.Volume{{Name: "s", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "s"}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "s", MountPath: "/s"}}
	})
	secret.Namespace = ns
	n.Write("secret.yaml", secret)
	harness.Eventually(t, "it is told what becomes of the static pod with a secret", harness.Patience, func() error {
		for _, line := range strings.Split(n.Log(), "\n") {
			if strings.Contains(line, n.Name("secret")) && (strings.Contains(line, "Pod rejected") || strings.Contains(line, "Could not bring a mirror pod")) && strings.Contains(line, "secret") {
				return nil
			}
		}
		return errors.New("not yet")
	}, n.Explain)
}
