package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestMirrorPods(t *testing.T) {
	n, ns := join(t)
	static := harness.Pod("s", "echo static; sleep 1000", quick)
	static.Namespace = ns
	n.Write("s.yaml", static)
	name := n.Name("s")
	mirror := n.AwaitReady(ns, name)
	if len(mirror.OwnerReferences) != 1 || mirror.OwnerReferences[0].Kind != "Node" || mirror.OwnerReferences[0].Name != n.Node() {
		t.Errorf("owner of the mirror pod: %v", mirror.OwnerReferences)
	}
	if mirror.Annotations["kubernetes.io/config.mirror"] == "" {
		t.Errorf("annotations of the mirror pod: %v", mirror.Annotations)
	}
	n.AwaitLog(ns, name, "static\n")
	if out := n.MustKubectl(ns, "exec", name, "--", "echo", "hi"); out != "hi\n" {
		t.Errorf("exec by the mirror's name: %q", out)
	}
	harness.Eventually(t, "describe shows the static pod's events", harness.Patience, func() error {
		if out := n.MustKubectl(ns, "describe", "pod", name); !strings.Contains(out, "Started") {
			return errors.New(out)
		}
		return nil
	}, n.Explain)

	// Removing the image of a pod stops nothing.
	container := harness.Status(mirror, "c").ContainerID
	n.MustKubectl(ns, "delete", "pod", name, "--wait=false")
	again := n.Await(ns, name, "is mirrored again", func(p *v1.Pod) bool { return p.UID != mirror.UID && harness.Ready(p) })
	if id := harness.Status(again, "c").ContainerID; id != container {
		t.Errorf("the container was %s and is %s", container, id)
	}

	// A changed manifest is another pod, with a mirror of its own.
	changed := harness.Pod("s", "echo changed; sleep 1000", quick)
	changed.Namespace = ns
	n.Write("s.yaml", changed)
	n.Await(ns, name, "is the changed pod", func(p *v1.Pod) bool {
		return p.UID != again.UID && harness.Ready(p) && strings.Contains(strings.Join(p.Spec.Containers[0].Command, " "), "changed")
	})
	n.Remove("s.yaml")
	n.AwaitGone(ns, name)
}

func TestStaleMirrorPodGoesAfterARestart(t *testing.T) {
	n, ns := join(t)
	static := harness.Pod("s", "sleep 1000", quick)
	static.Namespace = ns
	n.Write("s.yaml", static)
	n.AwaitReady(ns, n.Name("s"))
	n.Kill()
	if err := os.Remove(n.Manifests + "/s.yaml"); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.AwaitGone(ns, n.Name("s"))
	if _, err := n.Cluster.Client.CoreV1().Pods(ns).Get(t.Context(), n.Name("s"), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Error(fmt.Errorf("the mirror pod: %w", err))
	}
}
