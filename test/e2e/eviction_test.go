package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestAFullDiskAtTheAPIServer: the cluster sees what the node is short of, which pod had to go and why; a static pod
// stays, and a pod that comes meanwhile is turned away.
func TestAFullDiskAtTheAPIServer(t *testing.T) {
	t.Parallel()
	n := harness.NewNode(t, harness.SharedCluster(t), harness.AgentConfig{Config: map[string]any{
		"evictionHard":                     map[string]string{"nodefs.available": "20Mi"},
		"evictionPressureTransitionPeriod": "30s", // late has to come within it, also on a slow machine
	}})
	root := filepath.Join(n.Dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", 64<<20)); err != nil {
		t.Skipf("this environment cannot mount: %v", err)
	}
	n.Start()
	n.WaitReady()
	ns := n.Namespace()
	writes := func(name string, mebibytes int) *v1.Pod {
		p := harness.Pod(name, fmt.Sprintf("dd if=/dev/zero of=/v/f bs=1M count=%d; touch /tmp/ready; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done", mebibytes), harness.ReadyOnceTouched)
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		return p
	}
	n.Write("static.yaml", writes("static", 20))
	n.WaitRunning("static")
	n.Create(ns, writes("some", 5))
	n.AwaitReady(ns, "some")
	n.Create(ns, writes("much", 21))

	gone := n.Await(ns, "much", "is evicted", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed && p.Status.Reason == "Evicted" })
	i := slices.IndexFunc(gone.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.DisruptionTarget })
	if i < 0 || gone.Status.Conditions[i].Status != v1.ConditionTrue || gone.Status.Conditions[i].Reason != v1.PodReasonTerminationByKubelet {
		t.Errorf("conditions of the pod: %+v", gone.Status.Conditions)
	}
	n.Create(ns, harness.Pod("late", ""))
	late := n.Await(ns, "late", "is turned away", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed })
	if late.Status.Reason != "Evicted" || !strings.Contains(late.Status.Message, "The node had condition: [DiskPressure]. ") {
		t.Errorf("turned away with %s: %s", late.Status.Reason, late.Status.Message)
	}
	// The condition passes; its event stays.
	harness.Eventually(t, "the events are told", harness.Patience, func() error {
		events, err := n.Cluster.Client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		missing := map[string]bool{"NodeHasDiskPressure": true, "EvictionThresholdMet": true, "Evicted": true}
		for _, e := range events.Items {
			if e.InvolvedObject.Name != n.Node() && e.InvolvedObject.Name != "much" {
				continue
			}
			delete(missing, e.Reason)
			if e.Reason == "Evicted" && e.Annotations["starved_resource"] != "ephemeral-storage" {
				return fmt.Errorf("annotations of %s: %v", e.Reason, e.Annotations)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("no %v among %d events", missing, len(events.Items))
		}
		return nil
	}, n.Explain)
	harness.Eventually(t, "the node has no pressure any more", harness.Patience, func() error {
		node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == v1.NodeDiskPressure && c.Status == v1.ConditionFalse {
				return nil
			}
		}
		return errors.New("it has")
	}, n.Explain)
	n.Create(ns, harness.Pod("later", ""))
	n.AwaitReady(ns, "later")
	if p := n.AwaitReady(ns, "some"); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("a pod that uses less was restarted")
	}
	if p := n.WaitRunning("static"); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the static pod was restarted")
	}
}
